"""Languages by name or code: the names that prompts speak and the ISO 639-1 codes that data carries."""

import difflib
import unicodedata

from speechllm.errors import TaskError

NAMES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "ru": "Russian",
    "cs": "Czech",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "sv": "Swedish",
}
SPOKEN = ("en", "de", "fr", "es", "it", "ru", "cs", "nl")  # trained in every task; the others are only read

OWN_NAMES = {
    "de": "Deutsch",
    "fr": "Français",
    "es": "Español",
    "it": "Italiano",
    "ru": "Русский",
    "cs": "Čeština",
    "nl": "Nederlands",
    "pl": "Polski",
    "pt": "Português",
    "sv": "Svenska",
}  # of a language in itself


def _plain(text: str) -> str:
    """The text without case and accents: "Français" and "FRANCAIS" are alike."""
    apart = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


_CODES = {_plain(name): code for names in (NAMES, OWN_NAMES) for code, name in names.items()}


def code(language: str) -> str:
    """ISO 639-1 code of a language by English or own name or code: "German", "deutsch", "de", "de-AT", "de_DE": "de".

    Raises TaskError for a language that is not known.
    """
    key = _plain(language)
    primary = key.replace("_", "-").split("-")[0]
    found = _CODES.get(key) or (primary if primary in NAMES else None)
    if found is None:
        near = difflib.get_close_matches(key[:40], [*_CODES, *NAMES], n=3)
        codes = dict.fromkeys(_CODES.get(each, each) for each in near) or SPOKEN
        raise TaskError(f"unknown language {language[:40]!r}: use {', '.join(NAMES[each] for each in codes)} or a code")
    return found


def name(language: str) -> str:
    """English name of a language given by name or code: "de" gives "German". Raises TaskError if unknown."""
    return NAMES[code(language)]
