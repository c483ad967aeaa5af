"""The stage that says dates and times of day: "5/6/2026", "3. Mai", "5:45 pm", "14h30"."""

from __future__ import annotations

import re

from speechllm.spoken_text.stage import Stage, any_of, number, stop


class Times(Stage):
    def add_rules(self) -> None:
        self._add_dates()
        hour = r"\d{1,2}(?::\d\d)?"
        until = rf"(?<![\w:.,/-])({hour})-(?={hour}(?:(?<=:\d\d)| ?[AaPp]\.?[Mm]\b))"
        self.add(until, lambda m: f"{m[1]} {self.say['to']} ")
        half = {"en": r"(?: ?([AaPp])\.? ?[Mm]\b\.?)?", "de": "( ?Uhr)?", "fr": "()", "es": r"( ?h\b\.?)?"}[self.lang]
        colon = {"fr": " ?[:hH] ?", "de": r"(?::|\.(?=\d\d ?Uhr))"}.get(self.lang, ":")
        self.add(rf"(?<![\w:.,])([01]?\d|2[0-4]){colon}([0-5]\d)(?::([0-5]\d))?(?![\d:]){half}(?!\w)", self._time)
        if self.lang == "en":
            self.add(rf"(?<![\w:.,])(1?\d)()(){half[:-1]}", self._time)
        elif self.lang == "fr":
            self.add(r"(?<![\w:.,])([01]?\d|2[0-4]) ?h\b()()()", self._time)

    def _add_dates(self) -> None:
        names = "|".join(rf"{name}|{name[:3]}\b\.?" for name in self.words.months)
        day, year = r"(?<![\w.,/-])(\d{1,2})", r"(\d{4})(?![\w-]|[.,]\d)"
        self.add(r"(?<![\w.,/-])(\d{4})-(\d\d)-(\d\d)(?![\w-])", lambda m: self._date(m, m[3], m[2], m[1]))
        self.add(rf"{day}[./](\d{{1,2}})[./]{year}", lambda m: self._date(m, m[1], m[2], m[3]))
        if self.lang == "en":
            month_first = rf"\b({names}) (\d{{1,2}})(?:st|nd|rd|th)?"
            self.add(rf"{month_first},? {year}", lambda m: self._date(m, m[2], m[1], m[3]))
            self.add(rf"{month_first}(?![\w:-]|[.,]\d)", lambda m: self._date(m, m[2], m[1]))
            self.add(rf"{day}(?:st|nd|rd|th)? ({names})(?!\w),?(?: {year})?", self._day_first)
        elif self.lang == "de":
            self.add(rf"{day}\. ?({names})(?!\w)(?: {year})?", lambda m: self._date(m, m[1], m[2], m[3]))
        elif self.lang == "fr":
            self.add(rf"(?<!\w)1(?:er)? (?=(?:{any_of(self.words.months)})\b)", lambda m: "premier ")

    def _date(self, match: re.Match[str], day: str, month: str, year: str | None = None) -> str:
        if month.isdigit():
            if ("/" in match[0] and self.lang == "en" and int(day) <= 12) or int(month) > 12:
                day, month = month, day
            if not 1 <= int(month) <= 12:
                return match[0]
            month = self.words.months[int(month) - 1]
        if not 1 <= int(day) <= 31:
            return match[0]
        before = re.search(r"(\w{1,20}) $", match.string[max(0, match.start() - 21) : match.start()])
        is_ordinal = self.lang in ("en", "de") or (self.lang == "fr" and int(day) == 1)
        said = self.ordinal(day, before[1] if before else "") if is_ordinal else number(int(day), self.lang)
        pattern = self.words.date if year else self.words.date.partition("{year}")[0].rstrip(", ")
        return pattern.format(day=said, month=self._month(month), year=self.year(year) if year else "").rstrip()

    def _month(self, name: str) -> str:
        return next(month for month in self.words.months if month.lower().startswith(name.lower()[:3]))

    def _day_first(self, match: re.Match[str]) -> str:
        if not 1 <= int(match[1]) <= 31:
            return match[0]
        article = "" if match.string[: match.start()].lower().endswith("the ") else "the "
        year = f" {self.year(match[3])}" if match[3] else ""
        return f"{article}{self.ordinal(match[1])} of {self._month(match[2])}{year}"

    def _time(self, match: re.Match[str]) -> str:
        hour, minute = int(match[1]), int(match[2] or 0)
        h, m = number(hour, self.lang), number(minute, self.lang) if minute else ""
        seconds = f" {self.say['and']} {self.counted(str(int(match[3])), self.words.units['s'])}" if match[3] else ""
        if self.lang == "en":
            m = m and "oh " * (minute < 10) + m
            full = "" if match[4] else " o'clock" if 1 <= hour <= 12 else " hundred"
            half = {"a": " ay em", "p": " pee em", "": ""}[(match[4] or "").lower()]
            said = f"{h} {m}" if m else h + full
            return said + seconds + half + (stop(match) if half else "")
        if self.lang == "de":
            return f"{'ein' if hour == 1 else h} Uhr {m}".rstrip() + seconds
        if self.lang == "fr":
            return f"{h + 'e' * (hour in (1, 21))} {'heure' if hour < 2 else 'heures'} {m}".rstrip() + seconds
        h = {1: "una", 21: "veintiuna"}.get(hour, h)
        return f"{h} {m or 'en punto'}" + seconds
