"""How texts are pronounced: sentences with their phonemes, from which a text encoder learns to read.

    pip install "speechllm[synthesis]"
    python -m speechllm.data.pronunciation --lang en --out data/pronounced-en.jsonl

English phonemes are those of hibari's lexicon and rules (after misaki), of other languages eSpeak NG's, both in IPA
letters of their own habits. To the sentences, English adds words of the lexicon, six a row, so that rare ones are read
too. Nobody needs these tools to speak: a model that has learned from them reads letters.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from speechllm.data.cache import write_whole
from speechllm.data.synthesis import sentences
from speechllm.errors import DataError

Pronounce = Callable[[list[str]], list[str]]  # texts to their phonemes
ESPEAK = {"de": "de", "es": "es", "fr": "fr-fr"}
WORDS_A_ROW = 6
_NO_PHONEME = re.compile(r"[^\w \u02b0-\u036f]|[\d_]")  # marks of stress, length and nasality are kept
_CHUNK = 2000  # texts that are pronounced at once


def _hibari() -> Pronounce:
    from hibari.g2p import G2P

    pronounce = G2P()
    return lambda texts: [pronounce(text) for text in texts]


def _espeak(voice: str) -> Pronounce:
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    backend = EspeakBackend(voice, with_stress=True, language_switch="remove-flags")
    return lambda texts: backend.phonemize(texts, strip=True)


def _word_rows(rng: random.Random) -> list[str]:
    """The lexicon's plain words in rows."""
    from hibari.g2p import G2P

    lexicon = G2P().lexicon
    words = sorted({word for part in (lexicon.golds, lexicon.silvers) for word in part.d if _is_plain(word)})
    rng.shuffle(words)
    return [" ".join(words[start : start + WORDS_A_ROW]) for start in range(0, len(words), WORDS_A_ROW)]


def _is_plain(word: str) -> bool:
    return word.isascii() and word.isalpha() and word.islower() and len(word) > 1


def pronounced(lang: str, count: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Rows (lang, text, phonemes) of sentences without digits, in random order.

    Raises DataError for a language or an installation that has no phonemes.
    """
    rng = random.Random(seed)
    try:
        pronounce = _hibari() if lang == "en" else _espeak(ESPEAK[lang])
        texts = sentences(count, lang, seed) + (_word_rows(rng) if lang == "en" else [])
    except ImportError as error:
        raise DataError('phonemes need their tools: pip install "speechllm[synthesis]"') from error
    except KeyError as error:
        raise DataError(f"phonemes are known of en, {', '.join(ESPEAK)}, not of {lang}") from error
    texts = [text for text in texts if not any(letter.isdigit() for letter in text)]
    rng.shuffle(texts)
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        for text, phonemes in zip(chunk, pronounce(chunk), strict=True):
            yield {"lang": lang, "text": text, "phonemes": " ".join(_NO_PHONEME.sub(" ", phonemes).split())}


def main(arguments: list[str] | None = None) -> int:
    """Write down how sentences are pronounced."""
    parser = argparse.ArgumentParser(prog="python -m speechllm.data.pronunciation", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="jsonl file to write")
    parser.add_argument("--lang", choices=["en", *ESPEAK], default="en")
    parser.add_argument("--sentences", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(row, ensure_ascii=False) for row in pronounced(given.lang, given.sentences, given.seed)]
    write_whole(given.out, lambda beside: beside.write_text("\n".join(rows) + "\n", "utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
