"""Answers that must be equal, however they are computed, and what the cheaper ways save.

    python -m bench.equality

Counts answers that differ: a batch of eight against eight single answers; a stream against its answer;
padding on the left and on the right against single answers (one padded batch through the decode loop);
drafted decoding (the LLM checks the reading in one pass) against plain greedy; and a head whose rows are
proposed in 8 bits against the exact one. Everything in fp32, where equal means equal token for token; with
`--dtype bfloat16` in a format whose sums depend on the shape of a product, so that near ties may fall
otherwise. Passes of the LLM's body and seconds are given for both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import clips, report

SETS = (("librispeech_test_other", "en"), ("common_voice_later_en", "en"), ("common_voice_multi", "de"))
TASKS = (
    ("transcribe", {}),
    ("translate", {"target": "Spanish"}),
    ("follow", {"instruction": "Write it in capital letters."}),
)
BATCH = 8
LONGEST = 96  # tokens of an answer


@dataclass
class Compared:
    """Two ways to the same answers."""

    what: str
    pairs: list[tuple[Any, Any]] = field(default_factory=list)  # reference way, other way
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    passes: list[int] = field(default_factory=lambda: [0, 0])

    @property
    def differ(self) -> int:
        return sum(left != right for left, right in self.pairs)

    def row(self) -> list:
        return [
            self.what,
            len(self.pairs),
            self.differ,
            *(count or None for count in self.passes),
            *self.seconds,
        ]


def recordings(count: int) -> list[tuple[Any, str]]:
    """Clips and their languages, the sets taking turns."""
    decks = [[(example, lang) for example in clips.spoken(name, count, lang)] for name, lang in SETS]
    dealt = [deck[place] for place in range(count) for deck in decks if place < len(deck)]
    return [(clips.read(example.audio), lang) for example, lang in dealt[:count]]


def batches(assistant: Any, made: Sequence[tuple[Any, str]]) -> Iterator[Compared]:
    """Batch against single answers, and stream against its answer, through the assistant."""
    heard = [clip for clip, _ in made[:BATCH]]
    for task, slots in TASKS:
        found, streamed = (
            Compared(f"{task}: batch of {len(heard)} = single"),
            Compared(f"{task}: stream = answer"),
        )
        single, found.seconds[0] = report.timed(_one_by_one, assistant, task, heard, slots)
        many, found.seconds[1] = report.timed(assistant.batch, task, audio=heard, **slots)
        found.pairs = [(left.text, right.text) for left, right in zip(single, many, strict=True)]
        streamed.seconds[0] = found.seconds[0]
        for clip, answer in zip(heard, single, strict=True):
            pieces, seconds = report.timed("".join, assistant.stream(task, audio=clip, **slots))
            streamed.pairs.append((answer.text, pieces.strip()))
            streamed.seconds[1] += seconds
        yield from (found, streamed)


def _one_by_one(assistant: Any, task: str, heard: Sequence[Any], slots: dict[str, str]) -> list[Any]:
    return [assistant.run(task, audio=clip, **slots) for clip in heard]


def asked(model: Any, made: Sequence[tuple[Any, str]]) -> list[tuple[Any, Any]]:
    """A conversation and what was heard for each clip, the tasks taking turns."""
    from speechllm import tasks
    from speechllm.conversation import Conversation

    found = []
    for number, (clip, lang) in enumerate(made):
        task, slots = TASKS[number % len(TASKS)]
        found.append((Conversation.ask(tasks.load(task).instruction(slots)), model.ear.hear(clip, (lang,))))
    return found


def greedy(model: Any, conversation: Any, heard: Any, draft: Sequence[int] = ()) -> tuple[list[int], int, float]:
    """Token ids of one answer, passes of the body, seconds."""
    from speechllm.decode import Effort

    effort = Effort()
    ids, seconds = report.timed(list, model.answer(conversation, [heard], LONGEST, draft, effort))
    return ids, effort.passes, seconds


def padding(model: Any, made: Sequence[tuple[Any, str]]) -> Iterator[Compared]:
    """One padded batch, filled on either side, against single answers, token for token."""
    both = asked(model, made[:BATCH])
    single = [greedy(model, conversation, heard) for conversation, heard in both]
    for side in ("left", "right"):
        found = Compared(f"padded {side} = single")
        conversations, heard = [each for each, _ in both], [[each] for _, each in both]
        many, found.seconds[1] = report.timed(model.generate, conversations, heard, LONGEST, side)
        found.seconds[0], found.passes[0] = sum(one[2] for one in single), sum(one[1] for one in single)
        found.pairs = [(one[0], ids) for one, ids in zip(single, many, strict=True)]
        yield found


def drafted(model: Any, made: Sequence[tuple[Any, str]]) -> Compared:
    """`transcribe` with the reading as a draft, against plain greedy."""
    from speechllm import tasks
    from speechllm.conversation import Conversation

    found = Compared("transcribe: drafted = plain greedy")
    conversation = Conversation.ask(tasks.load("transcribe").instruction({}))
    for clip, lang in report.progress(made, "drafts"):
        heard = model.ear.hear(clip, (lang,))
        draft = [*heard.ids, model.vocabulary.form.end[0]]
        sides = [greedy(model, conversation, heard), greedy(model, conversation, heard, draft)]
        found.pairs.append((sides[0][0], sides[1][0]))
        for place, (_, passes, seconds) in enumerate(sides):
            found.passes[place] += passes
            found.seconds[place] += seconds
    return found


def heads(model: Any, made: Sequence[tuple[Any, str]]) -> Compared:
    """The head's rows proposed in 8 bits against the exact ones."""
    both = asked(model, made)

    def answers(title: str) -> list[tuple[list[int], int, float]]:
        return [greedy(model, conversation, heard) for conversation, heard in report.progress(both, title)]

    exact = answers("exact head")
    model.language.pack()
    sides = exact, answers("8 bits")
    found = Compared("head in 8 bits = exact head")
    found.pairs = [(left[0], right[0]) for left, right in zip(*sides, strict=True)]
    found.passes = [sum(one[1] for one in side) for side in sides]
    found.seconds = [sum(one[2] for one in side) for side in sides]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "equality")
    parser.add_argument("--count", type=int, default=60, help="of clips for drafts and heads (default: 60)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args(arguments)
    import torch

    from speechllm.model import SpeechLLM

    made = recordings(options.limit or options.count)
    assistant = report.assistant(options)
    device = str(assistant.model.language.device)
    assistant.model = SpeechLLM.from_pretrained(
        options.model, dtype=getattr(torch, options.dtype), device=device, merge=True
    )
    found = [
        *batches(assistant, made), *padding(assistant.model, made), drafted(assistant.model, made),
        heads(assistant.model, made),
    ]  # fmt: skip
    print(f"{options.dtype} on {device}")
    head = ("equal answers", "answers", "differ", "passes", "passes, 2nd way", "seconds", "seconds, 2nd way")
    bars = [report.Bar(f"{one.what}: answers that differ", one.differ, 0) for one in found]
    differing = [
        {"what": one.what, "ways": [str(side) for side in pair]}
        for one in found for pair in one.pairs if pair[0] != pair[1]
    ]  # fmt: skip
    name = "equality" if options.dtype == "float32" else f"equality_{options.dtype}"
    report.finish(name, options, head, [one.row() for one in found], bars, differing)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
