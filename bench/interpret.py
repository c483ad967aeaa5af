"""Interpreting: what is said in English by a voice that no training heard, said in German, French and Spanish.

    python -m bench.interpret

30 sentences a language of the evaluation split (Tatoeba), spoken by Pico en-GB. The BLEU of Whisper base's reading of
what the model said stands beside that of the text that it meant to say, both against the references.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench import report
from bench.kept_out_voice import Speaker
from speechllm import languages
from speechllm.data import corpora
from speechllm.evaluation import metrics
from speechllm.evaluation.spoken_commands import load_instruments

TARGETS, COUNT, WORDS = ("de", "fr", "es"), 30, (4, 14)


def chosen(target: str, count: int) -> list[dict]:
    """Sentences spread evenly over the evaluation split."""
    rows = [row for row in corpora.texts(f"translation/en-{target}.eval") if row.get("en") and row.get(target)]
    rows = [row for row in rows if WORDS[0] <= len(row["en"].split()) <= WORDS[1]]
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def main(arguments: Sequence[str] | None = None) -> int:
    options = report.parser(__doc__, "interpret").parse_args(arguments)
    speaker, assistant, read = Speaker(), report.assistant(options), load_instruments(options.threads).read
    answers, rows, bars = [], [], []
    for target in TARGETS:
        for row in report.progress(chosen(target, options.limit or COUNT), target):
            answer = assistant.run(
                "interpret", audio=speaker.say(row["en"]), target=target, source="English", best_of=2
            )
            heard = read(answer.audio, target) if answer.audio else ""
            references = [row[target], *row.get("alts", [])]
            answers.append(
                {"target": target, "english": row["en"], "references": references, "meant": answer.text, "heard": heard}
            )
        ours = [one for one in answers if one["target"] == target]
        meant, heard = (
            metrics.bleu([metrics.Result(one[name], tuple(one["references"]), target) for one in ours]).value
            for name in ("meant", "heard")
        )
        rows.append([languages.NAMES[target], len(ours), meant, heard, heard / max(meant, 1e-9)])
        bars.append(report.Bar(f"BLEU heard, share of meant, {target}", rows[-1][-1], 0.7, at_most=False))
    head = ("to", "sentences", "BLEU meant", "BLEU heard", "share")
    report.finish("interpret", options, head, rows, bars, answers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
