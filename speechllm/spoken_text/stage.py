"""What the stages of writing share: rules in their order, and how a language says its numbers."""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from speechllm.spoken_text.lexicons import LEXICONS

MOST_DIGITS = 15  # of a number that is said as one; longer ones digit by digit
STARTS = r"(?:The|Then|It|He|She|We|They|You|This|That|But|And|So|If|When|In|My|There|Now)\b"  # of sentences

Said = Callable[[re.Match[str]], str]


@functools.lru_cache(maxsize=4096)
def number(value: int, lang: str, kind: str = "cardinal") -> str:
    """A number in words without commas; `kind` "cardinal", "ordinal" or "year"."""
    from num2words import num2words

    return num2words(value, lang=lang, to=kind).replace(",", "")


def any_of(forms: Iterable[str]) -> str:
    """A pattern for each of the forms, longer ones first."""
    return "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))


def stop(match: re.Match[str]) -> str:
    """The full stop of a short form where it also ends the sentence."""
    rest = match.string[match.end() : match.end() + 40]
    is_last = not rest.strip(" \"')") or rest[0] == "\n"
    is_suffix = match[0].rstrip(".").endswith(("m", "etc", "usw", "Inc", "Ltd", "Corp", "Jr", "Co"))
    is_next = re.match(r" [^\W\d_a-zß-ÿ]" if is_suffix else f" {STARTS}", rest) is not None
    return "." * (match[0].endswith(".") and (is_last or is_next))


class Stage(ABC):
    """One stage of writing a language out: `rules` in their order, each a pattern and what is said for it."""

    def __init__(self, lang: str) -> None:
        self.lang, self.words = lang, LEXICONS[lang]
        self.say = self.words.signs
        group, mark = re.escape(self.words.group), re.escape(self.words.mark)
        self.amount = rf"(?:\d{{1,3}}(?:{group}\d{{3}}){{1,4}}(?!\d)|\d{{1,15}}(?!\d))(?:{mark}\d{{1,15}}(?!\d))?"
        self.rules: list[tuple[re.Pattern[str], Said]] = []
        self.add_rules()

    @abstractmethod
    def add_rules(self) -> None:
        """Fill `rules` in the order in which they are tried."""

    def add(self, pattern: str, said: Said, flags: int = 0) -> None:
        self.rules.append((re.compile(pattern, flags), said))

    def cardinal(self, digits: str, is_plain: bool = True) -> str:
        """A whole number; digit by digit if it is long or starts with 0. `is_plain`: a German one may be a year."""
        if len(digits) > MOST_DIGITS or (digits[0] == "0" and len(digits) > 1):
            return self.spelled(digits)
        value = int(digits)
        is_year = self.lang == "de" and is_plain and 1100 <= value <= 1999 and value % 1000
        return number(value, self.lang, "year" if is_year else "cardinal")

    def spelled(self, digits: str) -> str:
        return " ".join(number(int(digit), self.lang) for digit in digits)

    def decimal(self, amount: str) -> str:
        """A number as it is written in this language: "1,234.5"."""
        whole, _, rest = amount.replace(self.words.group, "").partition(self.words.mark)
        if not rest:
            return self.cardinal(whole, is_plain=whole == amount)
        is_whole = self.lang in ("fr", "es", "it") and len(rest) <= 2 and rest[0] != "0"
        return f"{self.cardinal(whole)} {self.words.point} {self.cardinal(rest) if is_whole else self.spelled(rest)}"

    def counted(self, amount: str, names: str) -> str:
        """ "5" of "one dollar|dollars": "five dollars"."""
        one, many = names.split("|")
        return one if amount == "1" else f"{self.decimal(amount)} {many}"

    def ordinal(self, digits: str, before: str = "") -> str:
        """ "21" as "twenty-first"; `before` is the word that tells a German or Spanish ending."""
        said = number(int(digits.replace(self.words.group, "")), self.lang, "ordinal")
        if self.lang == "de" and before.lower() not in ("der", "die", "das"):
            return said + ("r" if not before or before.lower() in ("ein", "kein", "mein") else "n")
        return re.sub(r"o\b", "a", said) if self.lang == "es" and before == "ª" else said

    def year(self, digits: str) -> str:
        return number(int(digits), self.lang, "year")
