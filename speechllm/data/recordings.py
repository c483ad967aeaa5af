"""Rows of real recordings for training: the named corpora's train splits as plain dicts (audio, text, lang,
corpus, speaker, seconds)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import soundfile

from speechllm.data import corpora, phone_prompts, reserved
from speechllm.data.g722 import as_flac
from speechllm.data.instruction_checks import plain

LONGEST = 28.0  # seconds: what Whisper can place, less a tail


def train_rows(names: Iterable[str]) -> list[dict]:
    """Rows of the train splits of shared sets by name, of "asterisk", and of "noises" or "music" with empty texts.

    A name with a slash is a folder that holds a manifest.
    """
    return [row for name in names for row in (_prompts() if name == "asterisk" else _recordings(name))]


def unreserved(rows: Iterable[dict]) -> list[dict]:
    """The rows whose text no evaluation asks for; single words and pairs, which every corpus shares, may stay."""
    kept = reserved.texts()
    return [row for row in rows if len(row["text"].split()) < 3 or plain(row["text"]) not in kept]


def _recordings(name: str) -> Iterator[dict]:
    found = corpora.manifest(name, "train") if "/" in name else corpora.speech(name, "train")
    for example in found:
        if (example.text is None and example.lang) or (example.seconds or 0) > LONGEST:
            continue
        yield {
            "audio": str(example.audio),
            "text": (example.text or "").strip(),
            "lang": example.lang,
            "corpus": Path(name).name,
            "speaker": example.speaker,
            "seconds": example.seconds or 0.0,
        }


def _prompts() -> Iterator[dict]:
    for prompt in phone_prompts.prompts(split="train"):
        for lang, audio in sorted(prompt.audio.items()):
            if lang not in prompt.texts or len(prompt.texts[lang].split()) < 2:
                continue
            path = as_flac(audio)
            seconds = soundfile.info(path).duration
            if seconds <= LONGEST:
                row = {"audio": str(path), "text": prompt.texts[lang], "lang": lang, "corpus": "asterisk"}
                yield {**row, "speaker": f"asterisk {lang}", "seconds": seconds}
