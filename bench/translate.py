"""Translation of real recordings, and of the same words given as text instead of the recording.

    python -m bench.translate

Telephone prompts of Asterisk that no training saw (evaluation ids), English to and from Spanish, French,
Italian and Russian; the spoken language is given. chrF (sacrebleu) of each direction over prompts of at least
two words in the source, their mean, and the mean over those of at least four words. The Spanish texts are
written mostly without accents: where Spanish is the target, answers and references are compared without them,
and Spanish given as text gets them back.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench import report
from speechllm.data import corpora, phone_prompts
from speechllm.data.instruction_checks import words
from speechllm.evaluation import metrics

DIRECTIONS = [pair for other in ("es", "fr", "it", "ru") for pair in (("en", other), (other, "en"))]
FEWEST, MORE = 2, 4  # words of the source


def prompts(source: str, target: str, rows: Sequence[dict]) -> list[dict]:
    """Prompts that are spoken in `source` and known in `target`, of at least two words."""
    return [
        row
        for row in rows
        if row["lang"] == source and target in row["translation"] and len(words(row["text"])) >= FEWEST
    ]


def chrf(answers: Sequence[str], references: Sequence[str], target: str) -> metrics.Score:
    """chrF of one direction; Spanish without accents."""
    fold = metrics.without_accents if target == "es" else str
    pairs = zip(answers, references, strict=True)
    return metrics.chrf([metrics.Result(fold(answer), (fold(right),), target) for answer, right in pairs])


def main(arguments: Sequence[str] | None = None) -> int:
    options = report.parser(__doc__, "translate").parse_args(arguments)
    every = list(phone_prompts.rows("eval"))
    counts = phone_prompts.accent_counts(row["text"] for row in corpora.texts("sentences/train") if row["lang"] == "es")
    assistant = report.assistant(options)
    rows, answers, signature = [], [], ""
    for source, target in DIRECTIONS:
        chosen = prompts(source, target, every)[: options.limit]
        heard, read = [], []
        for row in report.progress(chosen, f"{source} to {target}"):
            text = phone_prompts.restore_accents(row["text"], counts) if source == "es" else row["text"]
            slots = {"source": source, "target": target}
            answer = assistant.run("translate", audio=row["audio"], **slots)
            heard.append(answer.text)
            read.append(assistant.run("translate", reading=text, **slots).text)
            answers.append(
                {"id": row["id"], **slots, "said": text, "read": answer.reading,
                 "reference": row["translation"][target], "from clip": heard[-1], "from text": read[-1]}
            )  # fmt: skip
        right = [row["translation"][target] for row in chosen]
        long = [place for place, row in enumerate(chosen) if len(words(row["text"])) >= MORE]
        figures = []
        for kept in (range(len(chosen)), long):
            for given in (heard, read):
                score = chrf([given[place] for place in kept], [right[place] for place in kept], target)
                figures.append(score.value)
        signature = score.signature
        rows.append([f"{source} to {target}", len(chosen), *figures[:2], len(long), *figures[2:]])
    means = [sum(row[column] for row in rows) / len(rows) for column in range(1, 7)]
    rows.append(["mean", None, means[1], means[2], None, means[4], means[5]])
    head = (
        "direction",
        "prompts",
        "from clip",
        "from text",
        "of 4+ words",
        "clip, 4+ words",
        "text, 4+ words",
    )
    bars = [report.Bar("mean chrF from the recordings", means[1], 45.0, at_most=False)]
    report.finish("translate", options, head, rows, bars, answers, signature=signature)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
