"""Interpreting: what is said in English by a voice that no training heard, said in German, French and Spanish.

    python -m bench.interpret

30 sentences a language of the evaluation split (Tatoeba), spoken by Pico en-GB. The BLEU of Whisper base's reading of
what the model said stands beside that of the text that it meant to say, both against the references; and beside that
of its reading of the same text said by Pico, from which the model has learned: what Whisper base mishears there it
mishears for want of its own. BLEU of so few sentences hangs on single words, so the words misheard of what was meant
stand there too, in percent.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench import report
from bench.kept_out_voice import Speaker
from speechllm import languages
from speechllm.data import corpora
from speechllm.evaluation import metrics
from speechllm.evaluation.spoken_commands import load_instruments

TARGETS, COUNT, WORDS = {"de": "de-DE", "fr": "fr-FR", "es": "es-ES"}, 30, (4, 14)  # targets and Pico's voices


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
    for target, pico in TARGETS.items():
        for row in report.progress(chosen(target, options.limit or COUNT), target):
            answer = assistant.run(
                "interpret", audio=speaker.say(row["en"]), target=target, source="English", best_of=2
            )
            heard = read(answer.audio, target) if answer.audio else ""
            said = read(speaker.say(answer.text, pico), target)
            references = [row[target], *row.get("alts", [])]
            answers.append(
                {"target": target, "english": row["en"], "references": references, "meant": answer.text}
                | {"heard": heard, "heard of Pico": said}
            )
        ours = [one for one in answers if one["target"] == target]
        meant, heard, said = (
            metrics.bleu([metrics.Result(one[name], tuple(one["references"]), target) for one in ours]).value
            for name in ("meant", "heard", "heard of Pico")
        )
        share, most = (bleu / max(meant, 1e-9) for bleu in (heard, said))
        misheard, of_pico = (
            metrics.wer([metrics.Result(one[name], (one["meant"],), target) for one in ours]).value
            for name in ("heard", "heard of Pico")
        )
        rows.append([languages.NAMES[target], len(ours), meant, heard, share, said, most, misheard, of_pico])
        bars.append(report.Bar(f"BLEU heard, share of meant, {target}", share, 0.7, at_most=False))
    head = (
        "to",
        "sentences",
        "BLEU meant",
        "BLEU heard",
        "share",
        "BLEU heard of Pico",
        "its share",
        "WER",
        "Pico's WER",
    )
    report.finish("interpret", options, head, rows, bars, answers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
