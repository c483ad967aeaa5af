"""`speechllm codec encode` and `decode`, with a tiny codec in a folder: files, lines, exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechllm import codecs
from speechllm.audio.decode import load
from speechllm.codecs import commands, files
from speechllm.commands import UsageError
from speechllm.errors import AudioError, DataError, SpeechLLMError

Run = Callable[..., int]


@pytest.fixture(scope="module")
def run() -> Run:
    """Runs `codec …` as the command line does, without catching errors."""
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--device")
    parser = argparse.ArgumentParser(prog="speechllm codec", exit_on_error=False)
    commands.options(parser, parents=[shared])

    def run(*arguments: object) -> int:
        options = parser.parse_args([str(each) for each in arguments], argparse.Namespace(device=None))
        return options.handler(options)

    return run


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 5003).astype(np.float32)
    soundfile.write(tmp_path / "talk.wav", samples, 8000)
    return tmp_path / "talk.wav"


@pytest.mark.parametrize("name", ["encodec", "mimi", "dac"])
def test_there_and_back(run, folders, talk, tmp_path, capsys, name):
    codes, out = tmp_path / "talk.safetensors", tmp_path / "out.wav"
    assert run("encode", talk, "-o", codes, "--codec", folders[name]) == 0
    codec, kept = codecs.load(folders[name]), files.load(codes)
    assert kept.values.equal(codec.encode(load(talk, rate=8000)))
    assert kept.samples == 5003 and kept.codec == str(folders[name])
    assert run("decode", codes, "-o", out, "--codec", folders[name]) == 0
    samples, rate = soundfile.read(out, dtype="float32")
    assert (len(samples), rate) == (5003, 8000)
    expected = codec.decode(kept.values).samples[:5003].clip(-1, 1)
    assert np.abs(samples - expected).max() < 1e-4  # 16 bits
    said = capsys.readouterr().out.splitlines()
    assert f"0.63 s, {codec.codebooks} codebooks of 64" in said[0]
    assert f"0.63 s at 8000 Hz from {codec.codebooks} codebooks" in said[1]


def test_bandwidth_and_codebooks(run, folders, talk, tmp_path):
    codes, out = tmp_path / "talk.safetensors", tmp_path / "out.wav"
    assert run("encode", talk, "-o", codes, "--codec", folders["encodec"], "--bandwidth", 6) == 0
    assert files.load(codes).codebooks == 4
    assert run("decode", codes, "-o", out, "--codec", folders["encodec"], "--codebooks", 1) == 0
    with pytest.raises(UsageError, match="has 4"):
        run("decode", codes, "-o", out, "--codec", folders["encodec"], "--codebooks", 5)
    assert run("encode", talk, "-o", codes, "--codec", folders["mimi"], "--codebooks", 3) == 0
    assert files.load(codes).codebooks == 3


def test_a_file_does_not_choose_what_is_fetched(run, folders, talk, tmp_path):
    codes = tmp_path / "talk.safetensors"
    run("encode", talk, "-o", codes, "--codec", folders["dac"])
    with pytest.raises(UsageError, match="--codec if you trust it"):
        run("decode", codes, "-o", tmp_path / "out.wav")


def test_codes_of_another_codec(run, folders, talk, tmp_path):
    codes = tmp_path / "talk.safetensors"
    run("encode", talk, "-o", codes, "--codec", folders["encodec"])
    with pytest.raises(DataError, match="frame_rate 250, the codec .* has 200"):
        run("decode", codes, "-o", tmp_path / "out.wav", "--codec", folders["dac"])


def test_mistakes_are_told_before_a_codec_loads(run, talk, tmp_path, monkeypatch):
    monkeypatch.setattr(codecs, "load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "text.wav").write_text("no sound")
    files.save(files.Codes(torch.zeros(1, 2, dtype=torch.long), "pocket", 8000, 80.0, 64, 200), tmp_path / "codes")
    with pytest.raises(AudioError):
        run("encode", tmp_path / "text.wav", "-o", tmp_path / "a")
    with pytest.raises(UsageError, match="existing folder"):
        run("encode", talk, "-o", tmp_path / "nowhere" / "a")
    with pytest.raises(UsageError, match="existing folder"):
        run("decode", tmp_path / "codes", "-o", tmp_path)
    with pytest.raises(UsageError, match=r"ends in .wav"):
        run("decode", tmp_path / "codes", "-o", tmp_path / "out.exe")
    with pytest.raises(DataError):
        run("decode", talk, "-o", tmp_path / "out.wav")
    for wrong in ("0", "-1", "two"):
        with pytest.raises((argparse.ArgumentError, SystemExit)):
            run("decode", tmp_path / "codes", "-o", tmp_path / "out.wav", f"--codebooks={wrong}")


def test_a_gpu_that_is_not_there(run, folders, talk, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SpeechLLMError, match="there is no cuda device"):
        run("encode", talk, "-o", tmp_path / "a", "--codec", folders["dac"], "--device", "cuda")
