"""The stages that say amounts (money, units, fractions, ordinals, years) and the numbers that are left."""

from __future__ import annotations

import re

from speechllm.spoken_text.lexicons import NAMES
from speechllm.spoken_text.stage import Stage, any_of

YEAR = r"(?:1[1-9]\d\d|20\d\d)"
SCALES = {"k": "thousand", "K": "thousand", "M": "million", "bn": "billion"}


class Amounts(Stage):
    def add_rules(self) -> None:
        if self.lang == "en":
            self._add_decades()
        self.add(
            r"(?<=\d)(?<!\d-\d)(?<!\d-\d\d)(?<!\d-\d\d\d)-(?=[$£€]?\d{1,15}(?![\d-]))", lambda m: f" {self.say['to']} "
        )
        self._add_money()
        amount = self.amount
        self.add(rf"(?<![\w.,])(-?)({amount}) ?({any_of(self.words.units)})(?!\w)", self._unit)
        self.add(r"(?<![\w.,/])(?:(\d{1,3}) )?(\d{1,3})/(\d{1,3})(?![\w/]|[.,]\d)", self._fraction)
        self.add(rf"(?<!\w)({amount}) ?[x×] ?(?=\d)", lambda m: f"{self.decimal(m[1])} {self.say['by']} ")
        if self.lang == "en":
            self._add_years()
            self.add(r"(?<!\w)(\d{1,4})x(?!\w)", lambda m: f"{self.cardinal(m[1])} times")
        self._add_ordinals()

    def _add_money(self) -> None:
        scale = {
            "en": r"(?: ?(thousand|million|billion|trillion|[kKM]|bn)\b)?",
            "de": r"(?: (Millionen|Milliarden)\b)?",
            "fr": r"(?: (millions|milliards)\b)?",
            "es": r"(?: (millones)\b)?",
        }[self.lang]
        sign = any_of(self.words.money)
        price = rf"({self.amount}(?:\.\d\d(?!\d))?){scale}"  # a point before two digits is meant so everywhere
        first, last = rf"(?<!\w)(-?)(?:US)?({sign}) ?(-?){price}(?!\w)", rf"(?<![\w.,])(-?){price} ?({sign})(?!\w)"
        self.add(first, lambda m: self._money(m[1] or m[3], m[4], m[2], m[5]))
        self.add(last, lambda m: self._money(m[1], m[2], m[4], m[3]))

    def _add_ordinals(self) -> None:
        if self.lang == "en":
            self.add(r"(?<![\w.,])(\d{1,3}(?:,\d{3}){1,3}|\d{1,9})(?:st|nd|rd|th)\b", lambda m: self.ordinal(m[1]))
        elif self.lang == "de":
            article = r"\b([Dd](?:er|ie|as|en|em)|[AaIi]m|[Zz]u[mr]|[Vv]om|[Bb]eim)"
            self.add(rf"{article} (\d{{1,4}})\.(?= ?\w)", lambda m: f"{m[1]} {self.ordinal(m[2], m[1])}")
            self.add(r"(?<![\w.,])(\d{1,3})\.(?= ?[a-zäöü])", lambda m: self.ordinal(m[1]))
        else:
            ending = {"fr": "(er|re|ère|ème|e|è|nd|nde)", "es": r"\.?([ºª]|er)"}[self.lang]
            self.add(rf"(?<![\w.,])(\d{{1,3}}){ending}(?!\w)", self._romance)

    def _romance(self, match: re.Match[str]) -> str:
        said = self.ordinal(match[1], match[2])
        if self.lang == "es" and match[2] == "er":
            return said.removesuffix("o")
        return "première" if match[2] in ("re", "ère") else said

    def _add_years(self) -> None:
        names = "|".join(self.words.months)
        context = rf"in|since|by|of|from|until|till|before|after|around|during|circa|year|{names}"
        after = r"(?![\w-]|[.,:]\d| ?[%$€£])"
        self.add(rf"(?<!\w)({YEAR}) to ({YEAR}){after}", lambda m: f"{self.year(m[1])} to {self.year(m[2])}")
        self.add(rf"\b((?i:{context}),?) ({YEAR}){after}", lambda m: f"{m[1]} {self.year(m[2])}")
        self.add(rf"\(({YEAR})(?=[),])", lambda m: f"({self.year(m[1])}")
        self.add(r"(?<!\w)'(\d\d)(?!\w)", lambda m: self.cardinal(m[1]))

    def _add_decades(self) -> None:
        self.add(r"(?<!\w)((?:1[1-9]|20)\d0)'?s\b", lambda m: _many(self.year(m[1])))
        before = r"(?:(?<!\w)'|\b((?:the|my|his|her|their|early|late|mid)[ -])'?)"  # else they may be seconds
        self.add(rf"{before}([2-9]0)'?s\b", lambda m: (m[1] or "") + _many(self.cardinal(m[2])))
        feet = r"(?<![\w.,])(\d)'(\d{1,2})\""
        self.add(feet, lambda m: f"{self.cardinal(m[1])} foot {self.cardinal(m[2])}")

    def _money(self, minus: str, amount: str, sign: str, scale: str | None) -> str:
        notes, coins = self.words.money[sign].split("/")
        amount = re.sub(r"\.(\d\d)$", rf"{self.words.mark}\1", amount)
        whole, _, rest = amount.partition(self.words.mark)
        minus = f"{self.say['-']} " * bool(minus)
        if scale:
            many = notes.split("|")[1]
            of = {"fr": "d'" if many[0] in "aeiou" else "de ", "es": "de "}.get(self.lang, "")
            return f"{minus}{self.decimal(amount)} {SCALES.get(scale, scale)} {of}{many}"
        if len(rest) > 2 or not rest.strip("0"):
            return minus + self.counted(whole if len(rest) <= 2 else amount, notes)
        bare = str(int(rest.ljust(2, "0")))
        cents = self.counted(bare, coins)
        if not whole.strip("0"):
            return minus + cents
        said = self.words.amount.format(whole=self.counted(whole, notes), coins=cents, bare=self.cardinal(bare))
        return minus + said

    def _unit(self, match: re.Match[str]) -> str:
        minus = f"{self.say['-']} " * bool(match[1])
        return minus + self.counted(match[2], self.words.units[match[3]])

    def _fraction(self, match: re.Match[str]) -> str:
        over, under = int(match[2]), int(match[3])
        if 0 < over < under <= 10:
            one, _, many = self.words.parts[under - 2].partition("|")
            said = f"{self.words.one} {one}" if over == 1 else f"{self.cardinal(match[2])} {many or one}"
        else:
            said = f"{self.cardinal(match[2])} {self.say['over']} {self.cardinal(match[3])}"
        return f"{self.cardinal(match[1])} {self.say['and']} {said}" if match[1] else said


class Numbers(Stage):
    """Says every number that is left, and the signs beside it."""

    def add_rules(self) -> None:
        if self.words.months:
            self.add(r"#(?= ?\d)", lambda m: f"{self.say['#']} ")
            self.add(r"(?<![^\W\d_])([A-Z])(?=-?\d)", lambda m: NAMES[m[1]] if self.lang == "en" else m[1])
        self.add(r"(?<![\w)\].,%-])-(?=[.,]?\d)|(?<=\d )-(?= \d)", lambda m: f"{self.say['-']} ")
        self.add(r"(?<=\d):(?=\d)", lambda m: " to " if self.lang == "en" else " ")
        self.add(rf"(?<![\d{self.words.mark}]){self.amount}(?![.,]?\d)", lambda m: self.decimal(m[0]))
        point = "Punkt" if self.lang == "de" else self.words.point
        self.add(r"(?<=\d)\.(?=\d)", lambda m: f" {point} ")
        self.add(r"\d{1,5000}", lambda m: self.cardinal(m[0]))
        self.add(r" ?%", lambda m: f" {self.say['%']}")


def _many(words: str) -> str:
    """The plural of a number: "ninety" "nineties"."""
    return words[:-1] + "ies" if words.endswith("y") else words + "s"
