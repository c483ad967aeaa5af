"""Languages by name or code: the names that prompts speak and the ISO 639-1 codes that data carries."""

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

_CODES = {name.lower(): code for code, name in NAMES.items()}


def code(language: str) -> str:
    """ISO 639-1 code of a language given by English name or code: "German", "de" and "de-AT" give "de".

    Raises TaskError for a language that is not known.
    """
    key = language.strip().lower()
    primary = key.replace("_", "-").split("-")[0]
    found = _CODES.get(key) or (primary if primary in NAMES else None)
    if found is None:
        raise TaskError(f"unknown language {language!r}: use one of {', '.join(NAMES.values())} or its code")
    return found


def name(language: str) -> str:
    """English name of a language given by name or code: "de" gives "German". Raises TaskError if unknown."""
    return NAMES[code(language)]
