"""How an answer to an instruction is checked: strict on form, forgiving on recognition.

A check takes (right answer, answer given, arguments) and says whether the given one follows the
instruction: really upper case, the exact number, exactly three words, yes or no and nothing else. Words
may differ from the right answer by a character error rate of `TOLERANCE` once case and marks are dropped,
unless the form is about them.
"""

import re
from collections.abc import Callable, Mapping

from rapidfuzz.distance import Levenshtein

TOLERANCE = 0.2  # character errors per character of the right answer
TRANSLATION_CHRF = 40.0  # a translation counts from this chrF on
NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    "twenty",
)  # fmt: skip

_BOUNDARY = re.compile(
    r"(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)"  # a title ends no sentence
    r"(?<=[.!?])\s+(?=[\"“¿¡«]?[^\W\d_a-zа-я])"
)

Arguments = Mapping[str, str]
Check = Callable[[str, str, Arguments], bool]


def words(text: str) -> list[str]:
    """The words of a text without the marks around them: `"Well," he said.` gives Well, he, said."""
    stripped = (re.sub(r"^[^\w]+|[^\w]+$", "", part) for part in text.split())
    return [word for word in stripped if word]


def sentences(text: str) -> list[str]:
    """The sentences of a text, cut after `.`, `!` or `?`; titles such as "Mr." do not end one."""
    cuts = _BOUNDARY.sub("\n", text)
    return [part.strip() for part in cuts.split("\n") if part.strip()]


def plain(text: str) -> str:
    """Lower case, no marks, single spaces: what a check compares where the form is not about them."""
    return " ".join(re.sub(r"[^\w\s]|_", "", text.casefold()).split())


def is_close(expected: str, given: str, tolerance: float = TOLERANCE) -> bool:
    """Whether two texts are alike but for recognition errors."""
    right, other = plain(expected), plain(given)
    return Levenshtein.distance(right, other) <= tolerance * len(right)


def one_word(right: str, given: str, arguments: Arguments) -> bool:
    return len(words(given)) == 1 and is_close(right, given)


def same_number(right: str, given: str, arguments: Arguments) -> bool:
    match = re.fullmatch(r"(\d+|[a-z]+)( words?| times?)?", plain(given))
    number = match[1] if match else ""
    return str(NUMBER_WORDS.index(number) if number in NUMBER_WORDS else number) == right


def same_count(right: str, given: str, arguments: Arguments) -> bool:
    return len(words(given)) == len(words(right)) and is_close(right, given)


def close_with(form: Callable[[str], bool]) -> Check:
    return lambda right, given, arguments: form(given) and is_close(right, given)


def has_no_marks(text: str) -> bool:
    return not re.search(r"[^\w\s'’\-]|(?<!\w)['’\-]|['’\-](?!\w)", text)


def is_title(text: str) -> bool:
    return all(not word[0].islower() for word in words(text))


def has_new_word(right: str, given: str, arguments: Arguments) -> bool:
    old, new = arguments["word"], arguments["replacement"]
    return new.lower() in given.lower() and not holds(given, old) and is_close(right, given)


def lacks_word(right: str, given: str, arguments: Arguments) -> bool:
    return not holds(given, arguments["word"]) and is_close(right, given)


def holds(text: str, word: str) -> bool:
    return word.lower() in (found.lower() for found in words(text))


def same_digits(right: str, given: str, arguments: Arguments) -> bool:
    plain_numbers = [re.sub(r"(?<=\d)[,.\u00a0\u202f ](?=\d{3}\b)", "", text) for text in (right, given)]
    digits = [re.findall(r"\d+", text) for text in plain_numbers]
    return digits[0] == digits[1] and is_close(plain_numbers[0], plain_numbers[1])


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def is_list(marker: Callable[[int], str]) -> Check:
    def check(right: str, given: str, arguments: Arguments) -> bool:
        items: list[str] = []
        for number, line in enumerate(lines_of(given), start=1):
            match = re.match(marker(number), line)
            if not match:
                return False
            items.append(line[match.end() :])
        wanted = [line.split(" ", 1)[1] for line in lines_of(right)]
        return len(items) == len(wanted) and is_close(" ".join(wanted), " ".join(items))

    return check


def same_lines(right: str, given: str, arguments: Arguments) -> bool:
    return (
        all(len(words(line)) == 1 for line in lines_of(given)) and len(lines_of(given)) > 1 and is_close(right, given)
    )


def same_commas(right: str, given: str, arguments: Arguments) -> bool:
    parts = given.split(",")
    return len(parts) > 1 and all(len(words(part)) == 1 for part in parts) and is_close(right, given)


def opens(right: str, given: str, arguments: Arguments) -> bool:
    phrase = arguments["phrase"]
    return given.casefold().startswith(phrase.casefold()) and is_close(right[len(phrase) :], given[len(phrase) :])


def closes(right: str, given: str, arguments: Arguments) -> bool:
    phrase = arguments["phrase"]
    return given.casefold().endswith(phrase.casefold()) and is_close(right[: -len(phrase)], given[: -len(phrase)])


def is_quoted(text: str) -> bool:
    return len(text) > 2 and text[0] in "\"“«„'‘" and text.rstrip(".")[-1] in "\"”»“'’"


def is_translation(right: str, given: str, arguments: Arguments) -> bool:
    return len(lines_of(given)) == 1 and chrf(right, given) >= TRANSLATION_CHRF


def is_both(right: str, given: str, arguments: Arguments) -> bool:
    lines, wanted = lines_of(given), lines_of(right)
    return len(lines) == 2 and is_close(wanted[0], lines[0]) and chrf(wanted[1], lines[1]) >= TRANSLATION_CHRF


def chrf(right: str, given: str) -> float:
    import sacrebleu  # heavy, and only translations need it

    return sacrebleu.sentence_chrf(given, [right]).score


BULLETED = is_list(lambda number: r"[-•*–]\s+")
NUMBERED = is_list(lambda number: rf"{number}[.):]\s*")
