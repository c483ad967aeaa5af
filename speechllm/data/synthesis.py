"""Clean sentences of one voice, by small synthesisers from ordinary packages: what the default voices learn from.

    pip install "speechllm[synthesis]"
    python -m speechllm.data.synthesis --voice heart --out data/heart --sentences 14000
    python -m speechllm.data.synthesis --voice pico-de --out data/pico-de --sentences 3000

hibari speaks English with one American female voice, SVOX Pico speaks German, Spanish and French (both Apache-2.0),
a hundred times as fast as real time on one core or faster. The folder gets `manifest.jsonl` and FLAC files at 16 kHz;
a killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechllm.audio.clip import Clip
from speechllm.data import corpora, mixture, reserved
from speechllm.data.cache import write_whole
from speechllm.data.instruction_checks import plain
from speechllm.errors import DataError

RATE = 16_000  # Hz
SHORTEST, LONGEST = 3, 24  # words of a sentence
SPEEDS = (0.9, 1.15)
_ODD = re.compile(r"[^\w ,.;:!?'’\"“”()\-–—%$£€&/¿¡«»]|_")
_BESIDE = {"en": ("de", "es"), "de": ("de",), "es": ("es",), "fr": ("fr",)}  # translations that hold the language
Speak = Callable[[str, float, int], Clip]  # text, speed, seed


@dataclass(frozen=True)
class Voice:
    """A synthesiser's voice."""

    lang: str  # ISO 639-1
    speaker: str
    load: Callable[[], Speak]


def _hibari() -> Speak:
    from hibari import Hibari

    voice = Hibari()
    return lambda text, speed, seed: Clip(voice(text, speed=speed, seed=seed), voice.sample_rate)


def _pico(name: str) -> Callable[[], Speak]:
    def load() -> Speak:
        from py_nanotts import NanoTTS

        voice = NanoTTS()

        def speak(text: str, speed: float, _: int) -> Clip:
            samples = np.frombuffer(voice.speak(text, voice=name, speed=speed), np.int16)
            return Clip(samples.astype(np.float32) / 32768, RATE)

        return speak

    return load


VOICES = {
    "heart": Voice("en", "hibari heart", _hibari),
    "pico-en": Voice("en", "pico en-US", _pico("en-US")),
    "pico-de": Voice("de", "pico de-DE", _pico("de-DE")),
    "pico-es": Voice("es", "pico es-ES", _pico("es-ES")),
    "pico-fr": Voice("fr", "pico fr-FR", _pico("fr-FR")),
}


def sentences(count: int, lang: str = "en", seed: int = 0, *, rare: bool = False) -> list[str]:
    """Sentences of a language to speak, each once, none that an evaluation asks for; the same for the same seed.

    rare: those alone that have two words or more that none before them has, so that many words are heard.
    """
    kept_out = reserved.texts()
    pool = {row["text"] for row in corpora.texts("sentences/train") if row["lang"] == lang}
    for other in _BESIDE[lang]:
        pool |= {english if lang == "en" else foreign for english, foreign in mixture.translations(other)}
    fit = sorted(
        text
        for text in pool
        if SHORTEST <= len(text.split()) <= LONGEST and not _ODD.search(text) and plain(text) not in kept_out
    )
    random.Random(seed).shuffle(fit)
    return (_bringing_words(fit) if rare else fit)[:count]


def _bringing_words(texts: list[str], least: int = 2) -> list[str]:
    """The texts that have at least so many words that no text taken before has."""
    known, taken = set[str](), list[str]()
    for text in texts:
        words = set(re.findall(r"\w+", text.lower()))
        if len(words - known) >= least:
            known |= words
            taken.append(text)
    return taken


def speak(texts: list[str], folder: Path, voice: Voice = VOICES["heart"], seed: int = 0) -> None:
    """Speak the texts that are not in the folder's manifest yet, a little slower or faster each."""
    import soundfile
    from tqdm import tqdm

    try:
        say = voice.load()
    except ImportError as error:
        raise DataError('speaking needs the synthesisers: pip install "speechllm[synthesis]"') from error
    path = folder / "manifest.jsonl"
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    there = {row["text"] for row in corpora.rows(path)} if path.exists() else set()
    with path.open("a", encoding="utf-8") as manifest:
        for number, text in enumerate(tqdm(texts, desc="sentences", unit="")):
            if text in there:
                continue
            speed = random.Random(f"{seed} {text}").uniform(*SPEEDS)
            clip = say(text, speed, number).resampled(RATE)
            name = f"audio/{number:06d}.flac"
            sound = clip.samples.clip(-1, 1)
            write_whole(folder / name, lambda beside, sound=sound: soundfile.write(beside, sound, RATE, format="FLAC"))
            row = {"audio": name, "text": text, "lang": voice.lang, "speaker": voice.speaker, "split": "train"}
            manifest.write(json.dumps({**row, "duration": round(clip.seconds, 3)}, ensure_ascii=False) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Speak sentences for training."""
    parser = argparse.ArgumentParser(prog="python -m speechllm.data.synthesis", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--voice", choices=sorted(VOICES), default="heart")
    parser.add_argument("--sentences", type=int, default=12_000)
    parser.add_argument("--rare", action="store_true", help="only sentences that bring two new words or more")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    voice = VOICES[given.voice]
    texts = sentences(given.sentences, voice.lang, given.seed, rare=given.rare)
    speak(texts, given.out, voice, given.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
