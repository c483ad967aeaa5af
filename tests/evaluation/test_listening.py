"""The listening page: complete, self-contained, and unharmed by what is said on it."""

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from speechllm.audio.clip import Clip
from speechllm.errors import DataError
from speechllm.evaluation import listening
from speechllm.evaluation.spoken import Report, Spoken, SpokenRow
from speechllm.testing import babble, tone

HOSTILE = "</span><script>alert(1)</script><img src=x onerror='alert(2)'> & \"quoted\""


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def spoken(text="One two.", read="One two.", **fields) -> Spoken:
    found = {"wer": 0.0, "cer": 0.0, "seconds": 1.0, "audio": babble(1.0), **fields}
    return Spoken(SpokenRow(text, speaker=fields.pop("speaker", None)), read, **found)


def written(folder, *samples: Spoken, title: str = "speak") -> Page:
    return Page(listening.write(Report(list(samples), None), folder, title).read_text(encoding="utf-8"))


def test_each_row_has_its_sound_its_picture_and_its_words(tmp_path):
    voice = tone(0.5)
    samples = [spoken(prompt=voice, dnsmos=3.25, similarity=0.8), spoken(prompt=voice), spoken("Three.", "three")]
    page = written(tmp_path / "page", *samples)
    sounds = [attributes["src"] for tag, attributes in page.tags if tag == "audio"]
    assert sounds == ["0001.wav", "voice-0001.wav", "0002.wav", "voice-0001.wav", "0003.wav"]
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert pictures == ["0001.png", "0002.png", "0003.png"]
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"index.html", *sounds, *pictures}
    heard, rate = soundfile.read(tmp_path / "page" / "0001.wav", dtype="float32")
    assert rate == 16_000
    assert heard == pytest.approx(samples[0].audio.samples, abs=1e-4)
    assert "similarity 0.80 · DNSMOS 3.25" in page.text
    assert "Three." in page.text


def test_texts_are_never_html(tmp_path):
    sample = Spoken(SpokenRow(HOSTILE, speaker=HOSTILE), HOSTILE + " more", wer=5.0, audio=tone(0.2))
    page = written(tmp_path, sample, Spoken(SpokenRow("x"), error=HOSTILE), title=HOSTILE)
    assert not {"script"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert [attributes["src"] for tag, attributes in page.tags if tag == "img"] == ["0001.png"]
    assert page.text.count("<script>alert(1)</script>") >= 5


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    written(tmp_path, spoken(prompt=tone()))
    text = (tmp_path / "index.html").read_text()
    assert not re.search(r"https?:|//|@import|url\(|<link|<script", text)
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_faults_are_said(tmp_path):
    page = written(
        tmp_path,
        spoken(read="", is_silent=True),
        spoken(is_runaway=True),
        Spoken(SpokenRow("x"), error="TaskError: no"),
    )
    for said in ("silent", "did not end in time", "no answer", "TaskError: no", "nothing"):
        assert said in page.text
    assert not (tmp_path / "0003.wav").exists()


def test_silence_and_overload_are_written(tmp_path):
    silence, loud = Clip(np.zeros(0, np.float32), 16_000), Clip(np.full(1600, 3.0, np.float32), 16_000)
    written(tmp_path, spoken(audio=silence), spoken(audio=loud))
    assert soundfile.read(tmp_path / "0002.wav")[0].max() == pytest.approx(1, abs=1e-3)


def test_a_folder_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "page").touch()
    with pytest.raises(DataError, match="cannot write the page"):
        written(tmp_path / "page", spoken())


@pytest.mark.parametrize(
    ("wanted", "read", "lang", "pieces"),
    [
        ("Hello, world!", "hello world", "en", ["hello", "world"]),
        ("I have twenty one cats.", "I have 21 cats", "en", ["I", "have", "21", "cats"]),
        ("The red cat - sat.", "The bad cat sat down", "en", ["The", "-red", "+bad", "cat", "sat", "+down"]),
        ("One two three", "one three.", "en", ["one", "-two", "three."]),
        ("Ja, nein", "", "de", ["-Ja,", "-nein"]),
        ("Ja", "... ja wohl", "de", ["...", "ja", "+wohl"]),
    ],
)
def test_wrong_words_are_found(wanted, read, lang, pieces):
    signs = {"right": "", "wrong": "+", "missing": "-"}
    assert [signs[kind] + word for kind, word in listening.compared(wanted, read, lang)] == pieces


def test_wrong_words_are_marked(tmp_path):
    written(tmp_path, spoken("a red cat", "a bad cat", wer=33.3))
    assert "a <del>red</del> <mark>bad</mark> cat" in (tmp_path / "index.html").read_text()


def test_a_tone_is_a_line_at_its_height():
    low, high = (listening.spectrogram(tone(1.0, hz)).mean(1).argmax() for hz in (300, 3000))
    assert low > high > 0
    assert listening.spectrogram(tone(1.0)).shape == (80, 100)
    assert listening.spectrogram(babble(30.0)).shape == (80, listening.MOST_COLUMNS)
    assert not listening.spectrogram(Clip(np.zeros(1600, np.float32), 16_000)).any()


def test_the_picture_is_a_png():
    image = pytest.importorskip("PIL.Image")
    levels = np.arange(6, dtype=np.uint8).reshape(2, 3) * 51
    found = image.open(io.BytesIO(listening.png(levels)))
    assert found.size == (3, 2)
    assert (np.asarray(found) == levels).all()
    colours = np.asarray(found.convert("RGB")).reshape(-1, 3)
    assert colours[0].tolist() == [8, 6, 24]
    assert colours[-1].tolist() == [252, 253, 191]
    assert (np.diff(colours.sum(1).astype(int)) > 0).all()
