"""The LLM's word pieces: spelling plain text, the chat form of its family, and the output rows an answer may use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from speechllm.conversation import ChatForm
from speechllm.errors import WeightsError


class Vocabulary:
    """The tokenizer of a base model folder, through the `tokenizers` library (no transformers import, fast start)."""

    def __init__(self, folder: Path | str) -> None:
        from tokenizers import Tokenizer

        path = Path(folder) / "tokenizer.json"
        if not path.exists():
            raise WeightsError(f"{folder} holds no tokenizer.json; is it a base model's folder?")
        self.tokenizer = Tokenizer.from_file(str(path))
        # Names of control tokens inside a text stay text.
        self.tokenizer.encode_special_tokens = True
        self.form = chat_form(self)

    def id(self, token: str) -> int | None:
        """The id of a control token, or None where the family lacks it."""
        return self.tokenizer.token_to_id(token)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, control tokens left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The text that each id adds; joined they are the text of all."""
        out, done = [], ""
        ids = list(ids)
        for n in range(1, len(ids) + 1):
            text = self.decode(ids[:n])
            # An incomplete character (byte pieces) shows as U+FFFD: its text comes with the piece that completes it.
            text = text if not text.endswith("\ufffd") else done
            out.append(text[len(done) :])
            done = text
        return out


def chat_form(vocabulary: Vocabulary) -> ChatForm:
    """Gemma's turns or ChatML, by the control tokens the vocabulary has.

    Raises:
        WeightsError: the vocabulary has neither.
    """
    newline = tuple(vocabulary.encode("\n"))
    if (start := vocabulary.id("<start_of_turn>")) is not None:
        names = {"system": "user", "user": "user", "assistant": "model"}
        begin, end = vocabulary.id("<bos>"), vocabulary.id("<end_of_turn>")
    elif (start := vocabulary.id("<|im_start|>")) is not None:
        names = {"system": "system", "user": "user", "assistant": "assistant"}
        begin, end = None, vocabulary.id("<|im_end|>")
    else:
        raise WeightsError(
            "the base model's vocabulary has neither <start_of_turn> nor <|im_start|>; "
            "choose a base with one of the two, or add its chat form to language/vocabulary.py"
        )
    assert end is not None
    starts = {role: (start, *vocabulary.encode(name), *newline) for role, name in names.items()}
    return ChatForm(() if begin is None else (begin,), starts, (end,), newline)
