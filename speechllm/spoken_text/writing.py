"""Writes a text out: cleans it of markup and pictures, then lets each stage replace what it knows by words."""

from __future__ import annotations

import functools
import html
import re
import unicodedata

from speechllm import languages
from speechllm.spoken_text.amounts import Amounts, Numbers
from speechllm.spoken_text.letters import Letters, ShortForms
from speechllm.spoken_text.lexicons import LEXICONS
from speechllm.spoken_text.stage import Said, number
from speechllm.spoken_text.times import Times

STAGES = (ShortForms, Times, Amounts, Numbers, Letters)
QUOTES = str.maketrans("“”„‟«»″‘’‚‛′‹›‐‑‒−⁄∕", '"' * 7 + "'" * 7 + "----" + "//")
MARKUP = (  # of HTML and Markdown, and what is left of it
    (re.compile(r"</?[a-zA-Z][^<>\n]{0,100}>"), ""),
    (re.compile(r"!?\[([^\[\]\n]{1,300})\]\([^()\s]{0,500}\)"), r"\1"),
    (re.compile(r"^ {0,3}(?:#{1,6}|[-*+•]|>) +|^[-=_* ]{3,80}$", re.MULTILINE), ""),
    (re.compile(r"(?<=\d) ?\* ?(?=\d)"), " × "),
    (re.compile(r"[*`~]{2,}|[*`]|(?<!\w)_{1,80}|_{1,80}(?!\w)"), ""),
    (re.compile(r" ?\|[| ]*"), " "),
)


def written_out(text: str, lang: str = "en") -> str:
    """The text as it is said in a language (ISO 639-1): "Dr. Lee paid $3" as "Doctor Lee paid three dollars".

    Patterns are known for en, de, fr and es; of other languages only numbers are written out. Plain words and
    punctuation stay; pictures, control characters and markup go. Raises TaskError for an unknown language.
    """
    code = languages.code(lang)
    text = clean(text)
    for pattern, said in _rules(code):
        text = pattern.sub(functools.partial(_apart, said), text)
    text = re.sub(r"(?<=[^\W\d])_{1,80}(?=\w)", " ", text)
    text = re.sub(r" {2,}", " ", re.sub(r" *\n *", "\n", text)).strip()
    return re.sub(r"[\d²³]", lambda m: number(unicodedata.digit(m[0]), code), text)


@functools.lru_cache(maxsize=len(LEXICONS))
def _rules(lang: str) -> list[tuple[re.Pattern[str], Said]]:
    stages = STAGES if LEXICONS[lang].months else (Numbers,)
    return [rule for stage in stages for rule in stage(lang).rules]


def _apart(said: Said, match: re.Match[str]) -> str:
    """What is said for a match, with spaces where it would touch other letters."""
    words, text = said(match), match.string
    before = match.start() and text[match.start() - 1].isalnum() and words[:1].isalnum()
    after = match.end() < len(text) and text[match.end()].isalnum() and words[-1:].isalnum()
    return " " * bool(before) + words + " " * bool(after)


def clean(text: str) -> str:
    """The text in plain signs: no markup, pictures, control characters; quotation marks and dashes of one kind."""
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))", "", html.unescape(text).replace("\r\n", "\n"))
    text = re.sub(r"(?<=\w)[´`](?=\w)", "'", unicodedata.normalize("NFC", text).translate(QUOTES))
    text = re.sub(r"(?<=\d) ?[–—] ?(?=\d)", "-", text)
    text = re.sub(r"[–—―]", " - ", text)
    is_pictured = any(unicodedata.category(character) == "So" for character in text)
    text = re.sub(r" {2,}", " ", "".join(map(_kept, text)))
    for pattern, said in MARKUP:
        text = pattern.sub(said, text)
    return re.sub(r" (?=[.,;!?])", "", text) if is_pictured else text


def _kept(character: str) -> str:
    """The character, folded if it is a variant of another; nothing for what is never said; a space for pictures."""
    kind = unicodedata.category(character)
    if (character.isascii() and kind != "Cc") or character in "…ºª²³№°§¢£¥€":
        return character
    if character.isdigit():
        return str(unicodedata.digit(character))
    if kind in ("Nd", "No", "Nl", "Lm") or unicodedata.decomposition(character)[:4] in ("<fon", "<wid", "<com"):
        return unicodedata.normalize("NFKC", (" " if kind == "No" else "") + character).translate(QUOTES)
    if kind[0] == "Z" or character in "\n\t\r\v\f":
        return "\n" if character in "\n\r\v\f\u2028\u2029" else " "
    if kind in ("So", "Sk") or (kind == "Sm" and character not in "+<=>~±×÷≈≤≥"):
        return " "
    return "" if kind[0] == "C" or kind == "Me" or "\ufe00" <= character <= "\ufe0f" else character
