"""The stages that say what stands for other words: addresses, titles, short forms, telephone numbers, initials."""

from __future__ import annotations

import re

from speechllm.spoken_text.lexicons import KINGS, NAMES, ORDINARY, PARTS, SPELLED
from speechllm.spoken_text.stage import STARTS, Stage, stop

PHONES = (
    r"\+\d[\d ()-]{5,20}\d",
    r"\(\d{2,5}\) ?\d{3,4}[- ]\d{3,4}",
    r"0\d{1,4}(?:[ /-]\d{2,8}){1,5}",
    r"\d{3}[-. ]\d{3}[-. ]\d{4}",
    r"\d{2}[1-9]-\d{4}",
    r"(?!\d0{6,})\d{7,}(?![.,]\d)",
    r"0\d+",
)
DOMAINS = "com|org|net|edu|gov|io|ai|de|fr|es|uk|eu|info|app|dev|at|ch|it|us|tv|me"  # of addresses without "www."


class ShortForms(Stage):
    """Says what only its written form tells apart from a number or the end of a sentence."""

    def add_rules(self) -> None:
        label = r"[A-Za-z0-9][\w-]{0,62}"
        path = r"(?:/[\w/.?=&%#~+-]{0,200})?(?<![.?])"
        self.add(rf"(?<![\w.+-])[\w+-]{{1,64}}(?:\.[\w+-]{{1,64}}){{0,4}}@{label}(?:\.{label}){{1,4}}", self._address)
        self.add(rf"(?<![\w@.-])(?:https?://|www\.){label}(?:\.{label}){{0,5}}{path}", self._address)
        self.add(rf"(?<![\w@.-])(?:{label}\.){{1,4}}(?:{DOMAINS})(?![\w.-]?\w){path}", self._address)
        if self.lang == "en":
            street = rf"(?<=[a-z] )(St|Dr)\.(?= {STARTS}| [a-z]|[,;:!?)]|\s*$)"
            self.add(street, lambda m: {"St": "Street", "Dr": "Drive"}[m[1]] + stop(m), re.MULTILINE)
        self._add_forms(self.words.titles, r"(?= ?[^\W\d_a-zß-ÿ])", " ")
        self._add_forms(self.words.numbered, r"(?= ?\d)", " ")
        self._add_forms(self.words.short, r"(?!\w)")
        self.add(rf"(?<![\w.,:/-])(?:{'|'.join(PHONES)})(?![\w:/]|-\d|[.,]\d)", self._phone)

    def _add_forms(self, table: dict[str, str], following: str, space: str = "") -> None:
        forms = "|".join(re.escape(form).replace(r"\ ", " ?") for form in sorted(table, key=len, reverse=True))
        plain = {form.replace(" ", ""): said for form, said in table.items()}
        pattern = rf"(?<![\w.])({forms}){following}"
        self.add(pattern, lambda m: plain[m[1].replace(" ", "")] + (space or stop(m)))

    def _address(self, match: re.Match[str]) -> str:
        signs = {".": "dot", "/": "slash", "-": "dash"}
        text = re.sub(r"^https?://", "", match[0]).rstrip("/")
        words = re.sub(r"[./_@&+=%-]", lambda m: f" {self.say[signs.get(m[0], m[0])]} ", text)
        return re.sub(r"[?#~]", " ", re.sub(r"\bwww\b", "W W W", words))

    def _phone(self, match: re.Match[str]) -> str:
        said = ", ".join(map(self.spelled, re.findall(r"\d+", match[0])))
        return f"{self.say['+']} " * match[0].startswith("+") + said


class Letters(Stage):
    """Says initials by the names of their letters, Roman numbers, and the signs that are left."""

    def add_rules(self) -> None:
        ampersand = f" {self.say['&']} "
        self.add(r"\b([A-Z]{1,3})&([A-Z]{1,3})\b", lambda m: ampersand.join(map(self._named, m.groups())))
        if self.lang == "en":
            self.add(r"\b([A-Z][a-z]{1,30}) ([IVX]{2,6}|[VX](?= |$|[,.;]))(?!\w)", self._roman)
        self.add(r"(?<![\w'.])(?:[A-Za-z]\.){2,8}(?!\w)", lambda m: self._named(m[0].replace(".", "")) + stop(m))
        self.add(r"(?<![\w'])([A-ZÄÖÜ]{2,8})(s?)(?!\w|'[A-RT-Za-rt-z])", self._capitals)
        if self.lang == "en":
            self.add(rf"(?<![\w'.])([A-Z])\.(?= [A-Z])(?! {STARTS})", lambda m: NAMES[m[1]])
            self.add(r"(?<![\w'.])([B-HJ-Z])(?![\w']|\.\w)", lambda m: NAMES[m[1]])
        self.add(r"(?<=[^\W\d_])/(?=[^\W\d_])", lambda m: " ")
        self.add(r"#", lambda m: "")
        self.add(r" ?([&@+=×÷<>~≈±§°€$£¥²³≤≥]) ?", lambda m: f" {self.say.get(m[1], '')} ")

    def _named(self, letters: str) -> str:
        return " ".join(NAMES[letter.upper()] if self.lang == "en" else letter for letter in letters)

    def _capitals(self, match: re.Match[str]) -> str:
        """Initials by the names of their letters; "NASA", words that capitals only stress and Roman numbers stay."""
        word = match[1]
        before, after = (
            match.string[max(0, match.start() - 60) : match.start()],
            match.string[match.end() : match.end() + 60],
        )
        around = (re.split(r"[.!?\n]", before)[-1] + word + re.split(r"[.!?\n]", after)[0]).split()
        capitals = sum(map(str.isupper, around))
        is_loud = capitals > 2 and 2 * capitals > len(around)
        is_sayable = bool(set(word) & set("AEIOUY")) and (len(word) > 3 or (is_loud and word not in SPELLED))
        is_roman = self.lang != "en" and not set(word) - set("IVX")
        if is_sayable or is_roman or word.lower() in ORDINARY or not word.isascii():
            return match[0]
        return self._named(word) + match[2]

    def _roman(self, match: re.Match[str]) -> str:
        values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in match[2]]
        value = str(sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True)))
        if match[1] in PARTS:
            return f"{match[1]} {self.cardinal(value)}"
        return f"{match[1]} the {self.ordinal(value)}" if len(match[2]) > 1 or match[1] in KINGS else match[0]
