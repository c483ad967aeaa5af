"""What the LLM reads: a conversation of turns, each of parts, written as ids with places for audio.

Training and inference write the ids with the same function, `render`. Control tokens are put in by id only: text,
whoever wrote it, is spelled as plain text even where it contains a control token's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from speechllm.errors import TaskError


@dataclass(frozen=True)
class TextPart:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class AudioPart:
    """A place for what is heard in one clip: the `index`-th of those given along with the conversation."""

    index: int = 0


Part = TextPart | AudioPart


@dataclass(frozen=True)
class Turn:
    """What one side says; the assistant's turns are what training supervises."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Conversation:
    """Turns in order. Without a closing assistant turn it asks for one."""

    turns: tuple[Turn, ...]

    @classmethod
    def ask(cls, instruction: str, answer: str | None = None, audio: bool = True) -> Conversation:
        """The conversation of every task: an instruction about one clip and, in training, its answer."""
        parts: tuple[Part, ...] = (TextPart(instruction + "\n"), AudioPart()) if audio else (TextPart(instruction),)
        turns = (Turn("user", parts),)
        return cls(turns if answer is None else (*turns, Turn("assistant", (TextPart(answer),))))


@dataclass(frozen=True)
class Ids:
    """A run of token ids; `supervised` where training counts the loss."""

    ids: tuple[int, ...]
    supervised: bool = False


@dataclass(frozen=True)
class AudioPlace:
    """Where the bridge's embeddings of clip `index` go; how many there are only the bridge knows."""

    index: int


Segment = Ids | AudioPlace


class Speller(Protocol):
    """What writes plain text as ids."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, never a control token's."""
        ...


@dataclass(frozen=True)
class ChatForm:
    """How a family of models marks turns: ids that open and close them, for each role.

    `starts[role]` and `end` are ids; `begin` opens the whole conversation.
    """

    begin: tuple[int, ...]
    starts: dict[str, tuple[int, ...]]
    end: tuple[int, ...]  # closes a turn; its first id is where an answer stops
    after: tuple[int, ...]  # written between a turn's end and the next turn


def render(conversation: Conversation, form: ChatForm, speller: Speller) -> list[Segment]:
    """Write a conversation as segments; it ends ready for the assistant unless the last turn is the assistant's.

    Raises:
        TaskError: the conversation is empty, or the assistant speaks first.
    """
    turns = conversation.turns
    if not turns or turns[0].role == "assistant":
        raise TaskError("a conversation begins with a system or user turn")
    segments: list[Segment] = [Ids(form.begin)]
    for number, turn in enumerate(turns):
        is_answer = turn.role == "assistant"
        segments.append(Ids(form.starts[turn.role]))
        for part in turn.parts:
            if isinstance(part, AudioPart):
                segments.append(AudioPlace(part.index))
            elif part.text:
                segments.append(Ids(tuple(speller.encode(part.text)), is_answer))
        segments.append(Ids(form.end, is_answer))
        if number + 1 < len(turns):
            segments.append(Ids(form.after))
    if turns[-1].role != "assistant":
        segments += [Ids(form.after), Ids(form.starts["assistant"])]
    return _joined(segments)


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    """Merge neighbouring runs of ids that are supervised alike."""
    out: list[Segment] = []
    for segment in segments:
        last = out[-1] if out else None
        if isinstance(segment, Ids) and isinstance(last, Ids) and segment.supervised == last.supervised:
            out[-1] = Ids(last.ids + segment.ids, last.supervised)
        elif not isinstance(segment, Ids) or segment.ids:
            out.append(segment)
    return out


@dataclass(frozen=True)
class Filled:
    """A conversation as ids with every audio place filled by the ids of what was read there."""

    ids: tuple[int, ...]
    supervised: tuple[bool, ...]
    places: tuple[tuple[int, int, int], ...]  # clip index, first position, position after the last


def fill(segments: Sequence[Segment], readings: Sequence[Sequence[int]]) -> Filled:
    """Put the ids of each clip's reading into its places.

    Raises:
        TaskError: a place names a clip that was not given.
    """
    ids: list[int] = []
    supervised: list[bool] = []
    places: list[tuple[int, int, int]] = []
    for segment in segments:
        if isinstance(segment, AudioPlace):
            if segment.index >= len(readings):
                raise TaskError(f"the conversation speaks of clip {segment.index + 1}, but {len(readings)} were given")
            run = readings[segment.index]
            places.append((segment.index, len(ids), len(ids) + len(run)))
        else:
            run = segment.ids
        ids += run
        supervised += [isinstance(segment, Ids) and segment.supervised] * len(run)
    return Filled(tuple(ids), tuple(supervised), tuple(places))
