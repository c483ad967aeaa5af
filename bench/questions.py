"""Spoken questions: how many are answered right from speech, and how many from the same question as text.

    python -m bench.questions               # --count 600 asks all of them

Short factual questions of the evaluation split (WebQuestions and Natural Questions, spread evenly), spoken by
a voice that no training heard (Pico en-GB). An answer is right when it holds one of the accepted answers as
whole words, after SQuAD's normalisation. Few are answered by a small model; what counts here is how much of
it the way through speech costs, so the word error rate of the reading is beside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench import report
from bench.kept_out_voice import Speaker
from speechllm.data import corpora
from speechllm.evaluation import metrics


def chosen(count: int) -> list[dict]:
    """Questions spread evenly over the evaluation split, so that every source takes part."""
    rows = list(corpora.texts("questions/eval"))
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def written(question: str) -> str:
    """A question as a person writes it: no number before it, a capital first, a question mark last."""
    question = re.sub(r"^\d+\.\s*", "", question.strip())
    return question[:1].upper() + question[1:].rstrip(" ?") + "?"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "questions")
    parser.add_argument("--count", type=int, default=60, help="of questions (default: 60)")
    options = parser.parse_args(arguments)
    questions = chosen(options.limit or options.count)
    speaker, assistant = Speaker(), report.assistant(options)
    answers = []
    for row in report.progress(questions, "questions"):
        text = written(row["question"])
        spoken = assistant.run("answer", audio=speaker.say(text))
        read = assistant.run("answer", reading=text)
        answers.append(
            {"question": text, "answers": row["answers"], "read": spoken.reading, "from speech": spoken.text,
             "from text": read.text}
        )  # fmt: skip
    ways = ("from speech", "from text")
    right = {way: [metrics.holds_alias(one[way], one["answers"]) for one in answers] for way in ways}
    rows = [[way, len(answers), sum(right[way]), 100 * sum(right[way]) / len(answers)] for way in ways]
    same = sum(one["from speech"] == one["from text"] for one in answers)
    rows.append(["the same answer both ways", len(answers), same, 100 * same / len(answers)])
    errors = metrics.wer([metrics.Result(one["read"], (one["question"],)) for one in answers])
    bars = [
        report.Bar("right from speech, as % of right from text",
                   100 * sum(right["from speech"]) / max(1, sum(right["from text"])), 90.0, at_most=False)
    ]  # fmt: skip
    print(f"word error rate of what was read: {errors.value:.2f} %")
    head = ("questions", "asked", "right", "%")
    report.finish("questions", options, head, rows, bars, answers, reading_wer=errors.value)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
