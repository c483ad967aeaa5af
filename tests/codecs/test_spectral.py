"""The network of the pocket codec: STFTs against torch's own, rates, and how far each half looks."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from speechllm.codecs.spectral import (
    Block,
    SpectralCodec,
    SpectralConfig,
    depthwise,
    mel_filters,
    overlapped,
    spectra,
)
from speechllm.errors import DataError

SIZES = dict(size=16, inner=32, fine_size=12, fine_inner=24, mels=20, codebooks=3, codebook_size=16, codebook_width=4)
FAST = SpectralConfig(**SIZES, encoder_blocks=2, decoder_blocks=2, fine_blocks=1)
CONFIGS = {
    "50 Hz, ahead": FAST,
    "25 Hz": SpectralConfig(**SIZES, hop=640, encoder_blocks=2, decoder_blocks=2, fine_blocks=2),
    "causal": SpectralConfig(
        **SIZES, encoder_blocks=2, decoder_blocks=2, fine_blocks=1, encoder_ahead=0, decoder_ahead=0
    ),
    "windows alone": SpectralConfig(
        **SIZES, encoder_blocks=1, decoder_blocks=1, fine_blocks=0, encoder_ahead=1, decoder_ahead=1
    ),
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> SpectralConfig:
    return CONFIGS[request.param]


def network(config: SpectralConfig) -> SpectralCodec:
    """Random weights of a size at which everything matters."""
    torch.manual_seed(0)
    model = SpectralCodec(config).eval().requires_grad_(False)
    for name, each in model.named_parameters():
        if "norm" not in name:
            each.normal_(std=0.3)
    return model


def test_spectra_are_torchs_own() -> None:
    samples, shape = torch.randn(2, 1600), torch.hann_window(640)
    expected = torch.stft(samples, 640, 160, window=shape, center=False, return_complex=True).transpose(1, 2)
    found = spectra(samples, shape, 160)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-4)


def test_overlapped_frames_add_up() -> None:
    frames = torch.randn(2, 5, 12)
    expected = torch.zeros(2, 4 * 4 + 12)
    for i in range(5):
        expected[:, i * 4 : i * 4 + 12] += frames[:, i]
    assert torch.allclose(overlapped(frames, 4), expected, atol=1e-6)


def test_the_decoder_inverts_an_stft(config: SpectralConfig) -> None:
    """What `spectra` takes apart, `join` puts together again, but for a causal stream's first window."""
    decoder, before = SpectralCodec(config).decoder, config.before("decoder")
    samples = torch.randn(1, 8 * config.hop)
    padded = F.pad(samples, (before, config.window - config.step - before))
    frames = torch.fft.irfft(spectra(padded, torch.hann_window(config.window), config.step))
    joined = decoder.join(frames)
    assert joined.shape == samples.shape
    start = 0 if before else config.step
    assert torch.allclose(joined[:, start:], samples[:, start:], atol=1e-4)


def test_mel_bands_cover_every_frequency_and_none_is_empty() -> None:
    for window, mels in ((2048, 128), (640, 100), (128, 20)):
        filters = mel_filters(window, mels, 16_000)
        assert filters.shape == (window // 2 + 1, mels)
        assert (filters.sum(0) > 0).all()
        assert (filters[1:-1].sum(1) > 0).all()
        peaks = filters.argmax(0)
        assert (peaks[1:] >= peaks[:-1]).all()
    # mel(1000 Hz) = 1000 (999.99), the formula's anchor: the band centred there peaks there
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 102)[1:-1] / 2595) - 1)
    band = int(np.abs(centres - 1000).argmin())
    filters = mel_filters(16_000, 100, 16_000)  # bins of 1 Hz
    assert abs(int(filters[:, band].argmax()) - centres[band]) <= 1


def test_a_sine_of_full_scale_has_amplitude_one() -> None:
    encoder = SpectralCodec(FAST).encoder
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(6400) / 16_000)
    amplitudes = spectra(sine[None], encoder.shape, 160).abs()
    assert float(amplitudes.max()) == pytest.approx(1.0, abs=1e-3)


def test_depthwise_is_conv1d() -> None:
    block = Block(8, 16, 7, right=2, scale=1.0)
    hidden = torch.randn(3, 20, 8, requires_grad=True)
    twin = hidden.detach().clone().requires_grad_()
    found = depthwise(hidden, block.depthwise, block.sides)
    expected = block.depthwise(F.pad(twin.transpose(1, 2), (4, 2))).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-6)
    found.square().sum().backward()
    expected.square().sum().backward()
    assert hidden.grad is not None
    assert twin.grad is not None
    assert torch.allclose(hidden.grad, twin.grad, atol=1e-4)


def test_shapes_and_rates(config: SpectralConfig) -> None:
    model = network(config)
    samples = torch.randn(2, 6 * config.hop) * 0.1
    made, quantised = model(samples, torch.tensor([1, 3]))
    assert made.shape == samples.shape
    assert quantised.codes.shape == (2, 3, 6)
    assert model.encoder.features(samples).shape == (2, 6, config.ratio * config.mels)
    assert config.frame_rate == 16_000 / config.hop


def test_a_code_depends_on_no_frame_beyond_its_context(config: SpectralConfig) -> None:
    encoder, (left, right) = network(config).encoder, config.context("encoder")
    frames = left + right + 6
    samples = torch.randn(1, frames * config.hop) * 0.1
    before = encoder(samples)
    for changed in (3, frames - 4):
        other = samples.clone()
        other[:, changed * config.hop : (changed + 1) * config.hop] += 0.3
        moved = ((encoder(other) - before).abs().amax(-1)[0] > 0).nonzero().flatten()
        assert moved.min() >= changed - right
        assert moved.max() <= changed + left
    assert _first_moved(encoder, samples, config.hop, frames - 4) == frames - 4 - right


def test_a_frames_sound_depends_on_no_frame_beyond_its_context(config: SpectralConfig) -> None:
    decoder, (left, right) = network(config).decoder, config.context("decoder")
    frames = left + right + 6
    latents = torch.randn(1, frames, config.size)
    before = decoder(latents).unflatten(1, (frames, -1))
    for changed in (3, frames - 4):
        other = latents.clone()
        other[:, changed] += 1.0
        moved = ((decoder(other).unflatten(1, (frames, -1)) - before).abs().amax(-1)[0] > 0).nonzero().flatten()
        assert moved.min() == max(0, changed - right)  # the look-ahead that is stated is used
        assert moved.max() <= changed + left
    assert right == config.decoder_ahead


def _first_moved(encoder: torch.nn.Module, samples: torch.Tensor, hop: int, changed: int) -> int:
    other = samples.clone()
    other[:, changed * hop :] += torch.randn(other[:, changed * hop :].shape)
    return int(((encoder(other) - encoder(samples)).abs().amax(-1)[0] > 0).nonzero().min())


def test_causal_looks_at_nothing_later() -> None:
    config = CONFIGS["causal"]
    assert config.context("encoder")[1] == config.context("decoder")[1] == 0


def test_the_default_is_small_enough() -> None:
    model = SpectralCodec(SpectralConfig())
    assert sum(each.numel() for each in model.parameters()) < 12_000_000
    assert (SpectralConfig().frame_rate, SpectralConfig().context("decoder")[1]) == (50.0, 4)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hop", 321, "multiple of hop"),
        ("window", 500, "hop and window of step"),
        ("window", 160, "two steps"),
        ("decoder_ahead", 20, "1 to 16 with these blocks, not 20"),
        ("encoder_ahead", -1, "encoder_ahead is a whole number from 0 to 64"),
        ("size", 10**9, "size is a whole number from 1 to 4096"),
        ("size", True, "size is a whole number"),
        ("mels", "many", "mels is a whole number from 1 to 4096, not 'many'"),
    ],
)
def test_sizes_that_cannot_be(field: str, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SpectralConfig(**{field: value})  # type: ignore[arg-type]
