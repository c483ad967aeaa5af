"""Files of generated speech: the sound comes back, and the tag says what it is."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import speechllm
from speechllm.audio import Clip, load
from speechllm.audio.save import FORMATS, save, tag
from speechllm.errors import AudioError


def tone(rate: int = 24_000) -> Clip:
    return Clip((0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32), rate)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_sound_and_tag_come_back(tmp_path: Path, suffix: str, rate: int) -> None:
    path = save(tone(rate), tmp_path / f"answer{suffix}", "Good morning,\nÄpfel.")
    assert tag(path) == f"generated speech (speechllm {speechllm.__version__})"
    with soundfile.SoundFile(path) as sound:
        assert sound.title.startswith("Good morning, ")
    heard = load(path, rate=rate).samples[:rate]
    assert len(heard) == pytest.approx(rate, rel=0.1)
    middle = slice(rate // 4, rate // 2)
    assert np.std(heard[middle]) == pytest.approx(np.std(tone(rate).samples[middle]), rel=0.05)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_lossless_files_hold_the_samples_to_16_bits(tmp_path: Path) -> None:
    clip = tone()
    for suffix in (".wav", ".FLAC"):
        heard = load(save(clip, tmp_path / f"a{suffix}"), rate=clip.rate)
        assert np.abs(heard.samples - clip.samples).max() < 2**-15


def test_beyond_full_scale_is_cut_off_and_long_titles_too(tmp_path: Path) -> None:
    path = save(Clip(4 * tone().samples, 24_000), tmp_path / "loud.wav", "word " * 1000)
    assert np.abs(load(path, rate=24_000).samples).max() == pytest.approx(1.0, abs=1e-3)
    with soundfile.SoundFile(path) as sound:
        assert len(sound.title) <= 200


@pytest.mark.parametrize("rate", [11_000, 44_100, 96_000])
@pytest.mark.parametrize("suffix", [".mp3", ".opus"])
def test_rates_that_an_encoder_lacks_are_resampled(tmp_path: Path, suffix: str, rate: int) -> None:
    path = save(tone(rate), tmp_path / f"a{suffix}")
    assert load(path).seconds == pytest.approx(1.0, abs=0.15)


def test_an_old_file_is_replaced_and_kept_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    save(tone(), path)
    with pytest.raises(AudioError, match="no samples"):
        save(Clip(np.zeros(0, np.float32), 16_000), path)
    assert load(path).seconds == pytest.approx(1.0)
    assert save(Clip(np.zeros(8_000, np.float32), 16_000), path) == path
    assert load(path).seconds == pytest.approx(0.5)


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    cases = {
        "a.aac": r"none of \.wav, \.flac, \.ogg, \.opus, \.mp3",
        "plain": "none of",
        "missing/a.wav": "no folder",
        "folder.wav": "cannot be written",
        f"{'n' * 300}.wav": "cannot be written",
    }
    for name, reason in cases.items():
        with pytest.raises(AudioError, match=reason) as error:
            save(tone(), tmp_path / name)
        assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.wav"]


def test_tag_of_files_that_have_none(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "plain.wav", tone().samples, 24_000)
    (tmp_path / "note.txt").write_text("no sound")
    assert tag(tmp_path / "plain.wav") is None
    assert tag(tmp_path / "note.txt") is None
    with pytest.raises(AudioError, match="missing.wav"):
        tag(tmp_path / "missing.wav")
