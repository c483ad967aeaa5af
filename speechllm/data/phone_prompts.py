"""Telephone prompts of Asterisk in five languages: real recordings whose translations are known.

The recordings (asterisk-core-sounds-LANG-g722, 16 kHz) and their texts (asterisk-core-sounds-LANG) are Debian
packages under CC BY-SA 3.0 (en, es, fr) and CC BY 3.0 (it, ru). `debian` finds them.

An id sits in one split in every language: "eval" when the SHA-256 of "asterisk/NAME" in lower case begins
with a byte under 0x30, "dev" when only that of the bare name does (kept out of training so that neither
spelling of the rule is ever trained on), else "train".
"""

import argparse
import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechllm.data import debian
from speechllm.data.g722 import as_flac

VOICES = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
_SOUNDS = Path("usr/share/asterisk/sounds")
_ITALIAN = [
    (r" \? ", " è "),
    (r"\bsar\? ", "sarà "),
    (r"\bpu\? ", "può "),
    (r"\bcos\? ", "così "),
    (r"\bpi\? ", "più "),
]
_DROPPED = re.compile(r"silence/|beep|tt-monkeys|ascending|descending|confbridge-(join|leave)$|spy-", re.IGNORECASE)


@dataclass(frozen=True)
class PhonePrompt:
    """One prompt: what it says and its recording, by language."""

    id: str  # "asterisk/vm-intro"
    texts: Mapping[str, str]
    audio: Mapping[str, Path]  # g722, 16 kHz mono; only languages whose recording is there

    @property
    def split(self) -> str:
        """ "train", "dev" or "eval"."""
        if _first_byte(self.id) < 0x30:
            return "eval"
        return "dev" if _first_byte(self.id.removeprefix("asterisk/")) < 0x30 else "train"


def _first_byte(name: str) -> int:
    return hashlib.sha256(name.lower().encode()).digest()[0]


def unpacked(audio: bool = True) -> Path:
    """Folder with the unpacked packages, filled on first use; without `audio` the texts alone (0.1 MB).

    Raises DataError when the packages can neither be found nor downloaded.
    """
    return debian.unpacked(
        [f"asterisk-core-sounds-{lang}{kind}" for lang in VOICES for kind in ([""] + ["-g722"] * audio)]
    )


def parse(listing: str, lang: str) -> dict[str, str]:
    """Texts by id from a listing of `NAME: text` lines; prompts that are no speech are left out."""
    found: dict[str, str] = {}
    for line in listing.replace("\ufeff", "").splitlines():
        name, colon, text = line.partition(":")
        name = name.strip()
        if not colon or line.startswith(";") or _DROPPED.search(name):
            continue
        if text := _spoken(text, lang, is_letter=name.startswith("letters/")):
            found.setdefault(f"asterisk/{name.lower()}", text)
    return found


def _spoken(text: str, lang: str, is_letter: bool) -> str:
    """What is said of a line: without notes and symbols, with the marks and accents that the listing lost."""
    text = re.sub(r"\([^)]*\)|<[^>]*>", " ", text)
    text = re.sub(r"\[[^]]*\]", " ", text) if is_letter else re.sub(r"^\s*\[[^]]*\]\s*$", "", text)
    text = re.sub(r"[\[\]]", "", text)
    if lang == "en":
        text = text.replace("*", " star ").replace("#", " pound ")
    if lang == "it":
        for pattern, accented in _ITALIAN:
            text = re.sub(pattern, accented, text)
    text = re.sub(r"\s*\.\.+\s*|…", " ", text)
    text = re.sub(r"\s+([.,;:?!])", r"\1", " ".join(text.split()))
    return text.strip('"“” ') if len(re.findall('["“”]', text)) < 3 else text.strip()


def prompts(audio: bool = True, split: str | None = None) -> list[PhonePrompt]:
    """All prompts, sorted by id, or those of one split. Raises DataError when the packages cannot be had."""
    folder = unpacked(audio)
    texts: dict[str, dict[str, str]] = {}
    sounds: dict[str, dict[str, Path]] = {}
    for lang, voice in VOICES.items():
        listing = folder / f"usr/share/doc/asterisk-core-sounds-{lang}/core-sounds-{lang}.txt.gz"
        for name, text in parse(gzip.decompress(listing.read_bytes()).decode("utf-8"), lang).items():
            texts.setdefault(name, {})[lang] = text
        home = folder / _SOUNDS / voice
        for path in home.rglob("*.g722") if audio else ():
            name = f"asterisk/{path.relative_to(home).with_suffix('').as_posix().lower()}"
            sounds.setdefault(name, {})[lang] = path
    every = [PhonePrompt(name, texts[name], sounds.get(name, {})) for name in sorted(texts)]
    return [prompt for prompt in every if split in (None, prompt.split)]


def restore_accents(text: str, counts: Mapping[str, Counter[str]], ratio: float = 8.0) -> str:
    """Give unaccented words the accent they nearly always carry ("numero" becomes "número").

    counts: from `accent_counts`. A word changes only where another form is `ratio` times as frequent, and
    never in its last letter, where an accent makes another tense of a verb.
    """

    def accented(match: re.Match[str]) -> str:
        word = match[0]
        forms = counts.get(_plain(word.lower()))
        if not forms:
            return word
        best, times = forms.most_common(1)[0]
        if times < ratio * max(1, forms[word.lower()]) or best[-1] != word[-1].lower():
            return word
        return best.capitalize() if word[0].isupper() else best

    return re.sub(r"[^\W\d_]+", accented, text)


def accent_counts(sentences: Iterable[str]) -> dict[str, Counter[str]]:
    """For every word without its accents: how often each of its accented forms occurs."""
    counts: dict[str, Counter[str]] = {}
    for sentence in sentences:
        for word in re.findall(r"[^\W\d_]+", sentence.lower()):
            counts.setdefault(_plain(word), Counter())[word] += 1
    return counts


def _plain(word: str) -> str:
    return word.translate(str.maketrans("áéíóúüñ", "aeiouun"))


def rows(split: str, langs: Iterable[str] = tuple(VOICES)) -> Iterator[dict[str, Any]]:
    """Manifest rows of a split, one for each prompt and spoken language, with its translations by language.

    The recordings are converted to FLAC on first use.
    """
    for prompt in prompts(split=split):
        for lang in langs:
            if lang in prompt.audio and lang in prompt.texts:
                others = {other: text for other, text in prompt.texts.items() if other != lang}
                yield {
                    "audio": str(as_flac(prompt.audio[lang])), "text": prompt.texts[lang], "lang": lang,
                    "split": split, "id": prompt.id, "translation": others,
                }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Write a split of the prompts as a manifest; its rows name the unpacked recordings."""
    parser = argparse.ArgumentParser(prog="python -m speechllm.data.phone_prompts", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--split", choices=("train", "dev", "eval"), default="eval")
    given = parser.parse_args(arguments)
    with given.out.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(given.split))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
