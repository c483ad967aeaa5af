"""The pocket codec keeps the contract: lengths, streams, pieces, folders; an overfit network is heard again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from speechllm import codecs
from speechllm.audio.clip import Clip
from speechllm.codecs import pocket
from speechllm.codecs.base import trimmed
from speechllm.codecs.global_variance import GlobalVariance
from speechllm.codecs.pocket import PocketCodec
from speechllm.codecs.spectral import SpectralCodec
from speechllm.errors import AudioError, DataError, WeightsError
from speechllm.formats import tensors
from speechllm.testing import babble
from tests.codecs.test_spectral import CONFIGS, FAST, network


@pytest.fixture(params=CONFIGS)
def codec(request: pytest.FixtureRequest) -> PocketCodec:
    return PocketCodec(network(CONFIGS[request.param]), request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codec") / "model"
    pocket.save_model(network(FAST), path)
    return path


def noise(samples: int) -> Clip:
    return Clip(np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32), 16_000)


@pytest.mark.parametrize("samples", [1, 7, 319, 320, 321, 1599, 5003])
def test_length_is_kept(codec: PocketCodec, samples: int) -> None:
    codes = codec.encode(noise(samples))
    frames = -(-samples // codec.hop_length)
    assert codes.shape == (3, frames)
    assert codes.dtype == torch.int64
    for used in (1, 2, 3):
        clip = codec.decode(codes[:used])
        assert len(clip.samples) == frames * codec.hop_length
        assert len(trimmed(clip, samples).samples) == samples
        assert np.isfinite(clip.samples).all()


def test_each_codebook_is_heard(codec: PocketCodec) -> None:
    codes = codec.encode(noise(6400))
    sounds = [codec.decode(codes[:used]).samples for used in (1, 2, 3)]
    assert not np.allclose(sounds[0], sounds[1])
    assert not np.allclose(sounds[1], sounds[2])


@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
def test_a_stream_equals_the_whole(codec: PocketCodec, chunk: int) -> None:
    codes = codec.encode(noise(40 * codec.hop_length - 5))
    whole = codec.decode(codes)
    pieces = list(codec.stream(codes.split(chunk, dim=1)))
    joined = np.concatenate([piece.samples for piece in pieces])
    assert joined.shape == whole.samples.shape
    assert np.abs(joined - whole.samples).max() < 1e-5 * np.abs(whole.samples).max()
    if chunk == 1:  # it leaves as soon as its look-ahead has come
        assert codec.context is not None
        ahead = codec.context[1]
        assert len(pieces) == 40 - ahead + (ahead > 0)  # what is left comes in one piece
        assert {len(piece.samples) for piece in pieces[: 40 - ahead]} == {codec.hop_length}


def test_pieces_equal_the_whole(codec: PocketCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = noise(60 * codec.hop_length - 5)
    codes = codec.encode(clip)
    whole = codec.decode(codes)
    monkeypatch.setattr(pocket, "PIECE", 7)
    assert torch.equal(codec.encode(clip), codes)
    assert np.abs(codec.decode(codes).samples - whole.samples).max() < 1e-5 * np.abs(whole.samples).max()


def test_what_comes_later_changes_nothing_before_the_look_ahead(codec: PocketCodec) -> None:
    codes = codec.encode(noise(30 * codec.hop_length))
    other = codes.clone()
    other[:, 20:] = (other[:, 20:] + 1) % codec.codebook_size
    assert codec.context is not None
    settled = (20 - codec.context[1]) * codec.hop_length
    first, second = codec.decode(codes).samples, codec.decode(other).samples
    assert np.array_equal(first[:settled], second[:settled])
    assert not np.array_equal(first[settled:], second[settled:])
    assert codec.is_causal == (codec.context[1] == 0)


def test_a_folder_gives_the_same_codec(folder: Path) -> None:
    codec = codecs.load(folder)
    assert isinstance(codec, PocketCodec)
    assert (codec.sample_rate, codec.frame_rate, codec.codebooks, codec.codebook_size) == (16_000, 50.0, 3, 16)
    clip = noise(5000)
    codes = codec.encode(clip)
    assert torch.equal(pocket.load(folder, "cpu").encode(clip), codes)
    exact = PocketCodec(network(FAST), "").decode(codes).samples
    error = np.linalg.norm(codec.decode(codes).samples - exact) / np.linalg.norm(exact)
    assert error < 0.05  # of 8 bits


def test_fewer_codebooks_are_the_first_ones(folder: Path) -> None:
    clip = noise(5000)
    whole, two = codecs.load(folder), codecs.load(folder, codebooks=2)
    assert two.codebooks == 2
    assert torch.equal(two.encode(clip), whole.encode(clip)[:2])
    with pytest.raises(DataError, match="1 to 2 codebooks"):
        two.decode(whole.encode(clip))


@pytest.mark.parametrize("wanted", [0, 4, -1, True, 1.5, "two"])
def test_a_number_of_codebooks_that_it_lacks(folder: Path, wanted: object) -> None:
    with pytest.raises(DataError, match="whole number from 1 to 3"):
        codecs.load(folder, codebooks=wanted)


def test_options_of_other_codecs_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="takes the option codebooks, not bandwidth"):
        codecs.load(folder, bandwidth=6.0)


@pytest.mark.parametrize("hz", [8_000, 22_050, 48_000])
def test_other_rates_are_resampled(folder: Path, hz: int) -> None:
    codes = codecs.load(folder).encode(babble(0.5, rate=hz))
    assert codes.shape == (3, 25)


def test_clips_that_cannot_be_encoded(folder: Path) -> None:
    codec = codecs.load(folder)
    with pytest.raises(AudioError, match="empty"):
        codec.encode(Clip(np.zeros(0, np.float32), 16_000))
    with pytest.raises(AudioError, match="not finite"):
        codec.encode(Clip(np.full(500, np.nan, np.float32), 16_000))
    silent = codec.decode(codec.encode(Clip(np.zeros(500, np.float32), 16_000)))
    assert np.isfinite(silent.samples).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop": 321}, "multiple of hop"),
        ({"size": 32}, "size mismatch"),
        ({"size": 10**9}, "size is a whole number"),
        ({"model_type": "other"}, "model_type is 'other'"),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(folder: Path, tmp_path: Path, change: dict, message: str) -> None:
    described = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, **change}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=message) as error:
        pocket.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file(folder: Path, tmp_path: Path, lost: str) -> None:
    for name in {"config.json", "model.safetensors"} - {lost}:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(WeightsError, match="holds no pocket codec"):
        pocket.load(tmp_path)


def test_tensors_that_are_none(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    for content in (b"", b"x" * 100, (folder / "model.safetensors").read_bytes()[:-50]):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match="holds no pocket codec"):
            pocket.load(tmp_path)


def test_a_saved_model_takes_a_byte_a_number_and_is_whole(folder: Path) -> None:
    state = SpectralCodec(FAST).state_dict()
    assert tensors.load(folder / "model.safetensors").keys() == state.keys()
    assert (folder / "model.safetensors").stat().st_size < 1.3 * sum(each.numel() for each in state.values()) + 20_000


# Latents


def test_latents_sound_as_their_codes(codec: PocketCodec) -> None:
    codes = codec.encode(noise(40 * codec.hop_length))
    latents = codec.latents(codes)
    assert latents.shape == (40, codec.config.size)
    whole = codec.decode(codes)
    assert np.abs(_joined(codec, [latents]).samples - whole.samples).max() < 1e-5 * np.abs(whole.samples).max()
    first = codec.latents(codes[:1])
    rest = sum(codec.model.quantiser.books[k].values(codes[k]) for k in (1, 2))  # type: ignore[operator]
    assert torch.allclose(latents - first, rest, atol=1e-5)


def _joined(codec: PocketCodec, chunks: list[torch.Tensor], voice: GlobalVariance | None = None) -> Clip:
    clips = list(codec.stream_latents(chunks, voice))
    return Clip(np.concatenate([clip.samples for clip in clips]), clips[0].rate)


@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
def test_latents_stream_as_they_come(codec: PocketCodec, chunk: int) -> None:
    latents = torch.randn(40, codec.config.size, generator=torch.Generator().manual_seed(0))
    whole = _joined(codec, [latents])
    assert len(whole.samples) == 40 * codec.hop_length
    pieces = latents.split(chunk)
    streamed = _joined(codec, [pieces[0], latents[:0], *pieces[1:]])
    assert streamed.samples.shape == whole.samples.shape
    assert np.abs(streamed.samples - whole.samples).max() < 1e-5 * np.abs(whole.samples).max()
    assert codec.context is not None
    coming = iter(latents.split(1))
    taken = []

    def watched():
        for each in coming:
            taken.append(each)
            yield each

    assert next(codec.stream_latents(watched())).samples.size == codec.hop_length
    assert len(taken) == codec.context[1] + 1


def test_spectra_are_moved_to_a_voice_in_each_chunk(codec: PocketCodec) -> None:
    generator = torch.Generator().manual_seed(0)
    latents, real = (scale * torch.randn(40, codec.config.size, generator=generator) for scale in (1, 3))
    voice = codec.global_variance(latents, real)
    whole = _joined(codec, [latents], voice)
    streamed = _joined(codec, list(latents.split(7)), voice)
    assert np.abs(streamed.samples - whole.samples).max() < 1e-5 * np.abs(whole.samples).max()
    assert np.abs(_joined(codec, [latents]).samples - whole.samples).max() > 1e-2 * np.abs(whole.samples).max()
    spectra, moved = codec.model.decoder.spectra(latents[None])[0], codec.model.decoder(latents[None], voice)[0]
    assert np.abs(moved.numpy() - whole.samples).max() < 1e-5 * np.abs(whole.samples).max()
    assert torch.equal(voice.mean, codec.global_variance(latents, latents).mean) and spectra.shape[2] == len(voice.mean)


def test_no_latents_make_no_sound(codec: PocketCodec) -> None:
    assert list(codec.stream_latents([])) == []
    assert list(codec.stream_latents([torch.zeros(0, codec.config.size)])) == []


def test_latents_of_what_are_no_codes(folder: Path) -> None:
    codec = codecs.load(folder)
    for codes in (torch.full((1, 3), 16), torch.zeros(4, 3, dtype=torch.long), torch.zeros(1, 3)):
        with pytest.raises(DataError):
            codec.latents(codes)  # type: ignore[union-attr]
