"""What counts as the recording of a voice, what is kept of it, and the file that holds it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechllm import weights
from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.audio.segments import SpeechDetector
from speechllm.codecs import pocket
from speechllm.codecs.pocket import PocketCodec
from speechllm.errors import AudioError, WeightsError
from speechllm.hearing import Heard
from speechllm.model import SpeechLLM
from speechllm.reading import Reading
from speechllm.testing import tiny_codec, tone
from speechllm.voice_prompt import LOUDNESS, MARGIN, MOST_SECONDS, VoicePrompt, listen
from speechllm.woven import letters

JAZZ = Path(__file__).parents[1] / "demos" / "clips" / "en_jazz.ogg"
TEXT = "Simkins started playing jazz in his early teens."


class Keeping(PocketCodec):
    """Remembers what it was given to encode."""

    given: Clip

    def encode(self, clip: Clip) -> torch.Tensor:
        self.given = clip
        return super().encode(clip)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Keeping:
    return Keeping(pocket.load_model(tiny_codec(tmp_path_factory.mktemp("codec"))), "tiny")


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    return SpeechDetector(weights.get("silero-vad") / "silero_vad.onnx")


@pytest.fixture(scope="module")
def spoken() -> Clip:
    return load(JAZZ)


@pytest.fixture
def hear(tiny: SpeechLLM, codec: Keeping, detector: SpeechDetector):
    return lambda clip, text=TEXT: listen(clip, tiny.ear, codec, detector, text)


def loudness(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def long(spoken: Clip, seconds: float) -> Clip:
    return Clip(np.tile(spoken.samples, 1 + int(seconds / spoken.seconds))[: round(seconds * spoken.rate)], spoken.rate)


# What is kept


def test_a_voice_is_the_codes_of_a_clip_and_its_letters(hear, codec: Keeping, spoken: Clip) -> None:
    prompt = hear(spoken)
    frames = prompt.codes.shape[1]
    assert prompt.text == TEXT
    assert prompt.letters == "simkins started playing jazz in his early teens"
    assert 1.0 < frames / codec.frame_rate <= spoken.seconds + 0.02
    assert torch.equal(prompt.codes, codec.encode(codec.given)[:, :frames])
    edges = [edge for span in prompt.spans for edge in span]
    assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= frames
    bounds = prompt.bounds(2)
    assert len(bounds) == len(prompt.letters) + 3 and all(bound % 2 == 0 for bound in bounds)


def test_what_is_said_is_read_where_it_is_not_given(
    hear, tiny: SpeechLLM, spoken: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []

    def read(clip: Clip) -> Heard:
        heard.append(clip.seconds)
        return Heard(Reading("Some jazz.", (), "en"), (), None)

    monkeypatch.setattr(tiny.ear, "hear", read)
    assert hear(long(spoken, 20), None).letters == "some jazz"
    assert heard == [MOST_SECONDS]
    assert hear(spoken, "Other words.").letters == "other words"
    assert len(heard) == 1


@pytest.mark.parametrize("seconds", [8, 60])
def test_of_a_long_recording_the_first_words_are_kept(hear, spoken: Clip, seconds: int, codec: Keeping) -> None:
    text = " ".join([TEXT] * (min(seconds, 28) // 4))
    prompt = hear(long(spoken, seconds), text)
    assert codec.given.seconds <= 28
    words = letters(text).split()
    kept = len(prompt.letters.split())
    assert 0 < kept < len(words)
    assert prompt.text == prompt.letters == " ".join(words[:kept])
    assert prompt.codes.shape[1] <= (MOST_SECONDS + MARGIN) * codec.frame_rate
    assert len(prompt.spans) == len(prompt.letters)
    assert prompt.bounds(2)[-1] <= prompt.codes.shape[1]


def test_a_single_word_that_never_ends_is_cut(hear, spoken: Clip, codec: Keeping) -> None:
    prompt = hear(long(spoken, 20), "Jazz")
    assert prompt.letters == "jazz"[: len(prompt.letters)] and prompt.letters
    assert prompt.codes.shape[1] <= (MOST_SECONDS + MARGIN) * codec.frame_rate
    assert prompt.bounds(1)[-1] == prompt.codes.shape[1]


@pytest.mark.parametrize("factor", [0.02, 0.3, 1.0, 3.0])
def test_every_recording_is_made_as_loud(hear, codec: Keeping, spoken: Clip, factor: float) -> None:
    hear(Clip(spoken.samples * np.float32(factor), spoken.rate))
    assert loudness(codec.given.samples) == pytest.approx(LOUDNESS, rel=0.02)


def test_a_clipped_recording_is_a_voice(hear, codec: Keeping, spoken: Clip) -> None:
    clipped = Clip((spoken.samples * np.float32(30)).clip(-1, 1), spoken.rate)
    assert hear(clipped).letters == letters(TEXT)
    assert np.abs(codec.given.samples).max() <= 1


def test_peaks_bound_the_loudness(hear, codec: Keeping, spoken: Clip) -> None:
    samples = spoken.samples * np.float32(0.05)
    samples[len(samples) // 2] = 1.0
    hear(Clip(samples, spoken.rate))
    assert np.abs(codec.given.samples).max() == pytest.approx(0.99)
    assert loudness(codec.given.samples) < LOUDNESS


@pytest.mark.parametrize("hz", [8_000, 44_100])
def test_other_rates_are_heard(hear, codec: Keeping, spoken: Clip, hz: int) -> None:
    prompt = hear(spoken.resampled(hz))
    assert codec.given.rate == 16_000
    assert prompt.codes.shape[1] == pytest.approx(hear(spoken).codes.shape[1], abs=10)


def test_silence_around_speech_is_not_kept(hear, codec: Keeping, spoken: Clip) -> None:
    silence = np.zeros(3 * 16_000, np.float32)
    hear(Clip(np.concatenate([silence, spoken.samples, silence]), 16_000))
    assert codec.given.seconds <= spoken.seconds + 0.4


# What is none


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Clip(np.zeros(5 * 16_000, np.float32), 16_000), "no speech is heard"),
        (Clip(np.zeros(0, np.float32), 16_000), "no speech is heard"),
        (tone(5.0), "no speech is heard"),
        (tone(5.0, 200.0), "no speech is heard"),
        (load(JAZZ).cut(1.0, 1.2), "speech (is|are) heard"),
        (load(JAZZ).cut(0.6, 1.3), "only 0.. s of speech are heard"),
    ],
    ids=["silence", "nothing", "a tone", "a low tone", "0.2 s", "0.7 s"],
)
def test_a_recording_without_a_second_of_speech(hear, clip: Clip, message: str) -> None:
    for text in (TEXT, None):
        with pytest.raises(AudioError, match=message) as error:
            hear(clip, text)
        assert "\n" not in str(error.value)


def test_a_recording_in_which_no_word_is_read(
    hear, tiny: SpeechLLM, spoken: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny.ear, "hear", lambda clip: Heard(Reading("...", (), "en"), (), None))
    with pytest.raises(AudioError, match="no word is heard"):
        hear(spoken, None)
    with pytest.raises(AudioError, match="no word is heard"):
        hear(spoken, "?!")


def test_a_text_too_long_for_its_recording(hear, spoken: Clip) -> None:
    with pytest.raises(AudioError, match="too long for its recording"):
        hear(spoken, " ".join([TEXT] * 10))


# Files


@pytest.fixture
def prompt() -> VoicePrompt:
    codes = torch.randint(1024, (8, 60), generator=torch.Generator().manual_seed(0))
    return VoicePrompt(codes, "don't él", tuple((7 * i, 7 * i + 4) for i in range(8)), "Don’t, él!")


def test_a_file_gives_the_same_voice(prompt: VoicePrompt, tmp_path: Path) -> None:
    prompt.save(tmp_path / "ann.safetensors")
    found = VoicePrompt.load(tmp_path / "ann.safetensors")
    assert torch.equal(found.codes, prompt.codes) and found.codes.dtype == torch.int64
    assert (found.letters, found.spans, found.text) == (prompt.letters, prompt.spans, prompt.text)


@pytest.mark.parametrize(
    "changes",
    [
        {"letters": "don't é"},
        {"letters": "", "spans": ()},
        {"letters": "Don't él"},
        {"letters": "don't  é"},
        {"codes": torch.zeros(8, 0, dtype=torch.long)},
        {"codes": torch.zeros(8, 19, dtype=torch.long)},
        {"codes": torch.zeros(8, dtype=torch.long)},
        {"spans": ((0, 1, 2), (3, 4, 5))},
    ],
    ids=["a letter less", "none", "a capital", "two spaces", "no frames", "few frames", "one dimension", "of three"],
)
def test_parts_that_do_not_go_together(prompt: VoicePrompt, tmp_path: Path, changes: dict) -> None:
    replace(prompt, **changes).save(tmp_path / "ann.safetensors")
    with pytest.raises(WeightsError, match="ann.safetensors holds no voice") as error:
        VoicePrompt.load(tmp_path / "ann.safetensors")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 20, -10])
def test_a_damaged_file(prompt: VoicePrompt, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "ann.safetensors"
    prompt.save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="ann.safetensors holds no voice"):
        VoicePrompt.load(path)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "ann.safetensors"
    save_file({"codes": torch.zeros(8, 4, dtype=torch.int16)}, path)
    with pytest.raises(WeightsError, match="holds no voice"):
        VoicePrompt.load(path)
    spans = torch.zeros(1, 2, dtype=torch.int16)
    for described in ({"text": "a"}, {"letters": "a"}, {"letters": "你", "text": "a"}):
        save_file({"codes": torch.zeros(8, 9, dtype=torch.int16), "spans": spans}, path, described)
        with pytest.raises(WeightsError, match="holds no voice"):
            VoicePrompt.load(path)
    with pytest.raises(WeightsError, match="holds no voice"):
        VoicePrompt.load(tmp_path / "gone.safetensors")
