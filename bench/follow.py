"""Instructions about real recordings, in wordings that no training saw: how many are followed.

    python -m bench.follow

Operations take turns (upper case, the first three words, count the words, say whether a word occurs, replace
one, translate the last sentence …) over evaluation clips. An answer is checked on its form strictly, with
recognition forgiven up to a character error rate of 0.2. The share followed from the reference text instead
of the clip is beside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bench import report
from speechllm.data.instructions import followed
from speechllm.evaluation import instruction_items

WAYS = ("from clip", "from text")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "follow")
    parser.add_argument("--count", type=int, default=240, help="of instructions (default: 240)")
    parser.add_argument("--seed", type=int, default=0, help="of the clips and wordings")
    options = parser.parse_args(arguments)
    items = list(instruction_items.items(options.limit or options.count, options.seed))
    assistant = report.assistant(options)
    by_operation: dict[str, list[dict]] = defaultdict(list)
    for item in report.progress(items, "instructions"):
        instruction = item["instruction"]
        heard = assistant.run("follow", audio=item["audio"], instruction=instruction)
        read = assistant.run("follow", reading=item["text"], instruction=instruction)
        given = dict(zip(WAYS, (heard.text, read.text), strict=True))
        rights = {
            f"followed {way}": followed(item["operation"], item["text"], text, item["arguments"], item["answer"])
            for way, text in given.items()
        }
        by_operation[item["operation"]].append({**item, "read": heard.reading, **given, **rights})
    answers = [one for many in by_operation.values() for one in many]
    rows = [[name, len(many), *_shares(many)] for name, many in by_operation.items()]
    overall = _shares(answers)
    rows.append(["all", len(answers), *overall])
    bars = [
        report.Bar("instructions", len(answers), 100, at_most=False),
        report.Bar("followed, %", overall[0], 65.0, at_most=False),
    ]
    head = ("operation", "items", *(f"followed {way} %" for way in WAYS))
    report.finish("follow", options, head, rows, bars, answers)
    return 0


def _shares(many: Sequence[dict]) -> list[float]:
    return [100 * sum(one[f"followed {way}"] for one in many) / len(many) for way in WAYS]


if __name__ == "__main__":
    raise SystemExit(main())
