"""EnCodec, Mimi and DAC keep the codec contract: tiny random weights, transformers' own model as the oracle."""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from speechllm import codecs
from speechllm.audio.clip import Clip
from speechllm.codecs import hub
from speechllm.errors import AudioError, DataError, WeightsError

NAMES = ["encodec", "encodec, both ways", "encodec, norm over time", "mimi", "dac"]
STREAMING = [name for name in NAMES if name != "encodec, norm over time"]
HOPS = {"encodec": 32, "mimi": 40, "dac": 40}
MODELS: dict[str, Any] = {
    "encodec": transformers.EncodecModel,
    "mimi": transformers.MimiModel,
    "dac": transformers.DacModel,
}


def noise(samples: int, rate: int = 8000) -> Clip:
    return Clip(np.random.default_rng(0).normal(0, 0.3, samples).astype(np.float32), rate)


def oracle(folders: dict[str, Path], name: str) -> Any:
    return MODELS[name.split(",")[0]].from_pretrained(folders[name]).eval()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def load(folders: dict[str, Path]) -> Callable[[str], hub.HubCodec]:
    return functools.cache(lambda name: codecs.load(folders[name]))


def test_what_a_codec_says_of_itself(load, folders, name):
    codec, hop = load(name), HOPS[name.split(",")[0]]
    assert (codec.sample_rate, codec.hop_length, codec.codebook_size) == (8000, hop, 64)
    assert codec.frame_rate == 8000 / hop
    assert codec.name == str(folders[name])
    assert codec.is_causal == (name in ("encodec", "mimi"))


def test_real_configurations_have_the_published_rates():
    config = transformers.EncodecConfig()
    assert [hub.codebooks_of(config, each) for each in config.target_bandwidths] == [2, 4, 8, 16, 32]
    music = transformers.EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32000, upsampling_ratios=[8, 5, 4, 4], codebook_size=2048
    )
    assert hub.EncodecCodec.choose(music, None) == 4
    assert hub.MimiCodec.choose(transformers.MimiConfig(), 8) == 8


@pytest.mark.parametrize("extra", [1, 2, -1, 0, 17])
def test_length_is_kept_to_one_frame(load, name, extra):
    codec = load(name)
    for frames in (0, 1, 2, 5):
        samples = frames * codec.hop_length + extra
        if samples < 1:
            continue
        codes = codec.encode(noise(samples))
        assert codes.shape == (codec.codebooks, math.ceil(samples / codec.hop_length))
        assert codes.dtype == torch.int64 and codes.device.type == "cpu"
        clip = codec.decode(codes)
        assert clip.rate == 8000
        assert samples <= len(clip.samples) < samples + codec.hop_length
        assert codec.encode(clip).shape == codes.shape


@pytest.mark.parametrize("samples", [1, 333, 4000])
def test_equals_the_model_called_directly(load, folders, name, samples):
    codec, model, clip = load(name), oracle(folders, name), noise(samples)
    values = torch.from_numpy(clip.samples)[None, None]
    with torch.inference_mode():
        if name == "dac":
            values = torch.nn.functional.pad(values, (0, -samples % 40))  # as DacFeatureExtractor does
            codes = model.encode(values).audio_codes[0]
            sound = model.decode(audio_codes=codes[None]).audio_values[0]
        elif name == "mimi":
            codes = model.encode(values).audio_codes[0]
            sound = model.decode(codes[None]).audio_values[0, 0]
        else:
            codes = model.encode(values, bandwidth=model.config.target_bandwidths[-1]).audio_codes[0, 0]
            sound = model.decode(codes[None, None], [None]).audio_values[0, 0]
    assert codec.encode(clip).equal(codes)
    assert len(codes.unique()) > min(codes.shape[1], 8)  # or the test says nothing
    decoded = codec.decode(codes).samples
    assert np.array_equal(decoded[: len(sound)], sound.numpy())
    assert not decoded[len(sound) :].any()


@pytest.mark.parametrize("bandwidth", [3.0, 6.0, 12.0])
def test_every_bandwidth_has_the_codebooks_of_the_model(folders, bandwidth):
    codec, model = codecs.load(folders["encodec"], bandwidth=bandwidth), oracle(folders, "encodec")
    clip = noise(500)
    codes = model.encode(torch.from_numpy(clip.samples)[None, None], bandwidth=bandwidth).audio_codes[0, 0]
    assert codec.codebooks == len(codes) == model.quantizer.get_num_quantizers_for_bandwidth(bandwidth)
    assert codec.encode(clip).equal(codes)


@pytest.mark.parametrize("name", ["mimi", "dac"])
def test_fewer_codebooks_are_the_first_of_all(load, folders, name):
    whole, clip = load(name), noise(900)
    for count in range(1, whole.codebooks + 1):
        codes = codecs.load(folders[name], codebooks=count).encode(clip)
        assert codes.equal(whole.encode(clip)[:count])


def test_fewer_codebooks_decode_to_another_sound(load, name):
    codec = load(name)
    codes = codec.encode(noise(2000))
    sounds = [codec.decode(codes[:count]).samples for count in range(1, codec.codebooks + 1)]
    assert len({len(sound) for sound in sounds}) == 1
    assert all(not np.array_equal(sounds[i], sounds[i + 1]) for i in range(len(sounds) - 1))


@pytest.mark.parametrize("sizes", [[1] * 60, [3, 0, 1, 40, 16], [60], [59, 1], [2, 58]])
def test_streamed_equals_whole(load, name, sizes):
    codec = load(name)
    codes = torch.randint(64, (codec.codebooks, 60), generator=torch.Generator().manual_seed(1))
    pieces = list(codec.stream(codes.split(sizes, dim=1)))
    whole = codec.decode(codes)
    assert np.abs(np.concatenate([piece.samples for piece in pieces]) - whole.samples).max() < 1e-4
    assert all(len(piece.samples) and piece.rate == 8000 for piece in pieces)
    if name in STREAMING and len(sizes) == 60:
        assert len(pieces) > 20


@pytest.mark.parametrize("frames", [1, 2, 5, 9])
def test_short_streams_equal_whole(load, name, frames):
    codec = load(name)
    codes = torch.randint(64, (2, frames), generator=torch.Generator().manual_seed(2))
    streamed = np.concatenate([piece.samples for piece in codec.stream(codes.split(1, dim=1))])
    assert np.abs(streamed - codec.decode(codes).samples).max() < 1e-4


@pytest.mark.parametrize("name", ["encodec", "mimi"])
def test_a_causal_codec_speaks_at_once(load, name):
    codec = load(name)
    codes = torch.randint(64, (codec.codebooks, 40), generator=torch.Generator().manual_seed(3))
    came = 0
    heard: list[int] = []

    def chunks():
        nonlocal came
        for chunk in codes.split(1, dim=1):
            came += 1
            yield chunk

    for piece in codec.stream(chunks()):
        heard.append(came)
        assert len(piece.samples) == (came * codec.hop_length if len(heard) == 1 else codec.hop_length)
    assert heard[0] == (7 if name == "encodec" else 1)  # EnCodec's first convolution mirrors that many frames
    assert heard == list(range(heard[0], 41))


@pytest.mark.parametrize("name", STREAMING)
def test_long_recordings_in_pieces_equal_whole(load, monkeypatch, name):
    codec, clip = load(name), noise(9001)
    codes = codec.encode(clip)
    whole = codec.decode(codes)
    monkeypatch.setattr(hub, "PIECE", 0.1)
    monkeypatch.setattr(type(codec), "_encode_whole", None)
    in_pieces = codec.encode(clip)
    assert in_pieces.shape == codes.shape
    assert (in_pieces != codes).any(dim=0).sum() <= 1  # of 225 frames and more: two codes may be equally near
    monkeypatch.setattr(hub, "PIECE", 0.2)
    assert np.abs(codec.decode(codes).samples - whole.samples).max() < 1e-4


def test_any_rate_goes_in(load, name):
    codec = load(name)
    codes = codec.encode(noise(4410, 44100))
    assert codes.shape[1] == math.ceil(800 / codec.hop_length)


def test_the_same_clip_gives_the_same_codes_and_is_not_changed(load, name):
    codec, clip = load(name), noise(1000)
    before = clip.samples.copy()
    assert codec.encode(clip).equal(codec.encode(clip))
    assert np.array_equal(clip.samples, before)


def test_unusable_clips(load, name):
    with pytest.raises(AudioError, match="empty"):
        load(name).encode(Clip(np.zeros(0, np.float32), 16000))
    with pytest.raises(AudioError, match="not finite"):
        load(name).encode(Clip(np.array([0.0, np.nan], np.float32), 8000))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalize": True}, "stereo or stores a loudness"),
        ({"audio_channels": 2}, "stereo or stores a loudness"),
        ({"chunk_length_s": 1.0, "overlap": 0.01}, "facebook/encodec_24khz"),
        ({"model_type": "bert"}, "no codec"),
        ({"model_type": None}, "no codec"),
        ({"codebook_size": "many"}, "config.json"),
        ({"hidden_size": 16}, "holds no encodec codec to load"),
    ],
)
def test_folders_that_are_refused(folders, tmp_path, change, message):
    folder = shutil.copytree(folders["encodec"], tmp_path / "codec")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **change}), "utf-8")
    with pytest.raises(WeightsError, match=message) as caught:
        codecs.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000])
def test_a_config_that_is_none(tmp_path, text):
    (tmp_path / "config.json").write_text(text, "utf-8")
    with pytest.raises(WeightsError, match="does not say a model_type"):
        codecs.load(tmp_path)


def test_a_folder_without_all_tensors_is_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["dac"], tmp_path / "codec")
    tensors = load_file(folder / "model.safetensors")
    del tensors["decoder.conv1.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 1 tensors.*decoder.conv1.weight"):
        codecs.load(folder)
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(WeightsError, match="holds no dac codec"):
        codecs.load(folder)


def test_options_that_are_refused(folders):
    with pytest.raises(DataError, match="bandwidth 5 is not one of this codec's: 3, 6, 12 kbit/s"):
        codecs.load(folders["encodec"], bandwidth=5)
    with pytest.raises(DataError, match="takes the option bandwidth, not codebooks"):
        codecs.load(folders["encodec"], codebooks=2)
    with pytest.raises(DataError, match="takes the option codebooks, not bandwidth"):
        codecs.load(folders["mimi"], bandwidth=6)
    for count in (0, 6, 1.5, True):
        with pytest.raises(DataError, match="not a whole number from 1 to 5"):
            codecs.load(folders["dac"], codebooks=count)


def test_a_name_of_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SPEECHLLM_CACHE", str(tmp_path))
    with pytest.raises(WeightsError):
        codecs.load("no-such-codec")
