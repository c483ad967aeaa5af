"""A text is written out as it is said, cut into sentences, and refused in one line if it cannot be spoken."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechllm.errors import TaskError
from speechllm.spoken_text import fit, sentences, written_out
from speechllm.spoken_text.lexicons import LEXICONS
from speechllm.spoken_text.sentences import LONGEST_TEXT

ENGLISH = {
    "Dr. Lee paid $3.50 at 5:45": "Doctor Lee paid three dollars and fifty cents at five forty-five",
    "Mr. Smith met Ms. Wu on Main St. in St. Louis.": "Mister Smith met Miz Wu on Main Street in Saint Louis.",
    "e.g. cats, i.e. felines etc. Then": "for example cats, that is felines et cetera. Then",
    "No. 5 is no. No.": "number five is no. No.",
    "1,234 and 1,000,000": "one thousand two hundred and thirty-four and one million",
    "3.14": "three point one four",
    "50% of 20°C": "fifty percent of twenty degrees Celsius",
    "£5, €3.20, -$5, $0.99, $1": "five pounds, three euros and twenty cents, minus five dollars, ninety-nine cents, "
    "one dollar",
    "$1.5 million": "one point five million dollars",
    "5 kg at 10 km/h": "five kilograms at ten kilometers per hour",
    "the 3rd and 21st": "the third and twenty-first",
    "1990s, the 90s": "nineteen nineties, the nineties",
    "in 1984": "in nineteen eighty-four",
    "1984 sheep": "one thousand nine hundred and eighty-four sheep",
    "1914-1918": "nineteen fourteen to nineteen eighteen",
    "1/2, 2/3 and 3/4": "one half, two thirds and three quarters",
    "1½ cups": "one and one half cups",
    "2026-11-25": "November twenty-fifth, twenty twenty-six",
    "11/25/2026.": "November twenty-fifth, twenty twenty-six.",
    "25 November 2026": "the twenty-fifth of November twenty twenty-six",
    "May 5th, 1999": "May fifth, nineteen ninety-nine",
    "I may 5 times": "I may five times",
    "5:45 pm, 05:00, 12:00": "five forty-five pee em, five o'clock, twelve o'clock",
    "at 5 p.m. He left": "at five pee em. He left",
    "5551234567": "five five five one two three four five six seven",
    "agent 007": "agent zero zero seven",
    "(555) 123-4567": "five five five, one two three, four five six seven",
    "10-20 kg": "ten to twenty kilograms",
    "it is -5": "it is minus five",
    "2x, 3x4": "two times, three by four",
    "He left Baker St. Then he saw St. Mary.": "He left Baker Street. Then he saw Saint Mary.",
    "10:00-11:30, 5-6 pm": "ten o'clock to eleven thirty, five to six pee em",
    "A.I. for the FBI": "ay eye for the eff bee eye",
    "NASA, USA and CDs": "NASA, you ess ay and see dees",
    "THE CAT SAT ON THE MAT": "THE CAT SAT ON THE MAT",
    "THE FBI HAS 3 CARS AND MY CD. BOB SAW IT": "THE eff bee eye HAS three CARS AND MY see dee. BOB SAW IT",
    "DON'T ask WHY": "DON'T ask WHY",
    "MP3 and CO2": "em pee three and see oh two",
    "J. K. Rowling": "jay kay Rowling",
    "AT&T, Q&A, you & me": "ay tee and tee, cue and ay, you and me",
    "#5 2 + 2 = 4": "number five two plus two equals four",
    "and/or": "and or",
    "me@example.com": "me at example dot com",
    "See https://example.com/a.": "See example dot com slash a.",
    "Henry VIII in World War II": "Henry the eighth in World War two",
    "hello 😀.\u200b **bold** [link](http://a.b)": "hello. bold link",
    "“Hi”, it’s a well-known word…": '"Hi", it\'s a well-known word…',
}
OTHERS = {
    "de": {
        "3,50 €": "drei Euro fünfzig",
        "um 5:45 Uhr": "um fünf Uhr fünfundvierzig",
        "z. B. Dr. Müller": "zum Beispiel Doktor Müller",
        "1.234": "eintausendzweihundertvierunddreißig",
        "am 21. Mai, der 21. Tag, 21.": "am einundzwanzigsten Mai, der einundzwanzigste Tag, einundzwanzig.",
        "1984": "neunzehnhundertvierundachtzig",
        "3,14 und 1/2": "drei Komma eins vier und ein halb",
        "20 °C": "zwanzig Grad Celsius",
        "am 25.11.2026": "am fünfundzwanzigsten November zweitausendsechsundzwanzig",
        "FBI": "F B I",
    },
    "fr": {
        "3,50 € à 5h45": "trois euros cinquante à cinq heures quarante-cinq",
        "1 234": "mille deux cent trente-quatre",
        "M. Dupont, le 1er mai, 2e": "Monsieur Dupont, le premier mai, deuxième",
        "3/4 et 50 %": "trois quarts et cinquante pour cent",
        "2 millions €": "deux millions d'euros",
    },
    "es": {
        "3,50 € a las 5:45": "tres euros con cincuenta céntimos a las cinco cuarenta y cinco",
        "Sr. López, 1.234": "Señor López, mil doscientos treinta y cuatro",
        "25/11/2026, 2ª": "veinticinco de noviembre de dos mil veintiséis, segunda",
    },
    "cs": {"-5 a 1 234": "minus pět a tisíc dvěstě třicet čtyři"},
    "it": {"50%": "cinquanta per cento"},
    "nl": {"21": "eenentwintig"},
    "pl": {"2,5": "dwa przecinek pięć"},
    "ru": {"5 лет": "пять лет"},
}


@pytest.mark.parametrize(
    ("lang", "text", "spoken"),
    [(lang, *pair) for lang, table in {"en": ENGLISH, **OTHERS}.items() for pair in table.items()],
)
def test_written_out_says_what_a_reader_would(lang, text, spoken):
    assert written_out(text, lang) == spoken


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello there, my friend. How are you today? I am fine.",
         ["Hello there, my friend.", "How are you today?", "I am fine."]),
        ("Dr. Lee met J. K. Rowling. They talked, e.g. about cats.",
         ["Dr. Lee met J. K. Rowling.", "They talked, e.g. about cats."]),
        ("Well... he left. He said “Why not now?” and “I am here now.” Then he left…",
         ["Well... he left.", "He said “Why not now?” and “I am here now.”", "Then he left…"]),
        ("Oh! That is nice.", ["Oh! That is nice."]),
        ("Chapter one\nIt was late", ["Chapter one", "It was late"]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences_end_where_they_do(text, pieces):
    assert sentences(text) == pieces


def test_long_sentences_are_cut_at_signs_and_then_at_spaces():
    assert sentences("one two three; four five, six seven eight nine", most=24) == [
        "one two three;",
        "four five,",
        "six seven eight nine",
    ]
    assert all(len(piece) <= 220 for piece in sentences("word, " * 300))


@settings(max_examples=40)
@given(st.text(max_size=60) | st.text(max_size=60, alphabet="019 .,:/-$€%A.Ia'\"()\n;!?x°½"))
def test_any_text_is_written_out_without_digits_and_cut_without_loss(text):
    said = written_out(text)
    assert not any(character.isdigit() for character in said)
    for each in (text, said):
        assert " ".join(sentences(each, most=30)) == " ".join(each.split())


def test_no_text_takes_long():
    start = time.process_time()
    for part in ("1", ",", "(", "a.", "1,111", "$1", "a@b.", "[", "1-1/1:1. (,"):
        sentences(written_out((part * LONGEST_TEXT)[:LONGEST_TEXT]))
    assert time.process_time() - start < 5


def test_fit_gives_sentences_to_spell():
    assert fit("It costs $5. 😀 Is it 10:30?") == ["It costs five dollars.", "Is it ten thirty?"]
    assert fit("Привет, мир", "ru") == ["Привет, мир"]
    assert fit("9" * 400)[0].startswith("nine nine")


@pytest.mark.parametrize(
    ("text", "lang", "message"),
    [
        ("", "en", "no text"),
        (" \n", "en", "no text"),
        (None, "en", "no text"),
        ("😀 🎉!", "en", "only signs or pictures"),
        ("你好，世界", "en", "no letters that can be spoken: it is in Chinese letters"),
        ("こんにちは世界", "en", "Japanese"),
        ("Привет, мир", "en", "Cyrillic letters, English needs Latin"),
        ("Hi, Привет, мир", "de", "few letters"),
        ("Hello", "ru", "Latin letters, Russian needs Cyrillic"),
        ("a" * (LONGEST_TEXT + 1), "en", "5,001 characters; at most 5,000"),
        ("Hello", "tlh", "unknown language"),
    ],
)
def test_what_cannot_be_spoken_is_refused(text, lang, message):
    with pytest.raises(TaskError, match=message):
        fit(text, lang)


def test_every_known_language_says_numbers():
    assert all(written_out("7", lang).isalpha() for lang in LEXICONS)
