"""The network of the pocket codec: log-mel in, ConvNeXt blocks, a residual quantiser, blocks, inverse STFT out.

Everything runs at the frame rate, most of it in large matrix products, so that it learns and runs on a processor;
the waveform appears at the end alone, from magnitude and phase (Siuzdak 2023, "Vocos", §3). The blocks are those of
Liu et al. 2022 ("A ConvNet for the 2020s", §2) in one dimension, as there. Two changes: the decoder's last blocks
run at a finer rate (`step`), which gives windows as short as speech needs, and every convolution looks ahead by a
stated number of frames, so that the codec streams.

Time, in samples: frame t stands for [t * hop, (t + 1) * hop); it holds hop / step short frames, each with an
analysis or synthesis window of `window` samples. With look-ahead the window is centred on its step; without, the
analysis window ends with it and the synthesis window begins with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.codecs.quantise import Quantised, ResidualQuantiser
from speechllm.errors import DataError

FLOOR = 1e-5  # of mel amplitudes, full scale 1: -100 dB
LOUDEST = 6.0  # log of the largest magnitude that the decoder gives; a sine of full scale has 5.1
LARGEST = 4096  # of any size in a config: no file makes the network larger


@dataclass(frozen=True)
class SpectralConfig:
    """Sizes of the codec; the defaults make 9.3 M parameters."""

    sample_rate: int = 16_000  # Hz
    hop: int = 320  # samples a frame: 50 Hz
    step: int = 160  # samples a short frame
    window: int = 640  # samples of a short frame's window, a multiple of `step`
    mels: int = 100  # bands that the encoder hears
    size: int = 384  # width of frames and latents
    inner: int = 1152  # width inside a block
    encoder_blocks: int = 4
    decoder_blocks: int = 5
    fine_size: int = 256  # width of short frames
    fine_inner: int = 768
    fine_blocks: int = 2  # of the decoder, at short frames
    kernel: int = 7  # taps of each block's convolution
    encoder_ahead: int = 7  # frames after its own that a code may depend on; 0: causal
    decoder_ahead: int = 4  # frames after its own that a frame's sound may depend on; 0: causal
    codebooks: int = 8
    codebook_size: int = 1024
    codebook_width: int = 8  # dimensions in which the entries are compared

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name.endswith(("_ahead", "_blocks")) else 1
            most = {"sample_rate": 192_000, "kernel": 63, "codebooks": 64}.get(name, 64 if least == 0 else LARGEST)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise DataError(f"codec: {name} is a whole number from {least} to {most}, not {str(value)[:40]!r}")
        if self.sample_rate % self.hop or self.hop % self.step or self.window % self.step:
            raise DataError("codec: sample_rate must be a multiple of hop, and hop and window of step")
        if self.window < 2 * self.step or self.window % 2:
            raise DataError(f"codec: window {self.window} is even and at least two steps of {self.step}")
        for half, blocks in (("encoder", self.encoder_blocks), ("decoder", self.decoder_blocks)):
            ahead, most = getattr(self, f"{half}_ahead"), self.window_ahead + blocks * (self.kernel // 2)
            if 0 < ahead < self.window_ahead or ahead > most:
                raise DataError(
                    f"codec: {half}_ahead is 0, or {self.window_ahead} to {most} with these blocks, not {ahead}"
                )

    @property
    def frame_rate(self) -> float:
        """Frames a second, Hz."""
        return self.sample_rate / self.hop

    @property
    def ratio(self) -> int:
        """Short frames a frame."""
        return self.hop // self.step

    @property
    def window_ahead(self) -> int:
        """Frames that a centred window reaches past its own."""
        return math.ceil((self.window - self.step) // 2 / self.hop)

    def rights(self, half: str) -> list[int]:
        """Frames that each block of the "encoder" or "decoder" looks ahead: what the window leaves, early first."""
        blocks, left = getattr(self, f"{half}_blocks"), max(0, getattr(self, f"{half}_ahead") - self.window_ahead)
        each = [min(self.kernel // 2, max(0, left - i * (self.kernel // 2))) for i in range(blocks)]
        assert sum(each) == left, (each, left)
        return each

    def before(self, half: str) -> int:
        """Samples by which a short frame's window begins before its step."""
        if getattr(self, f"{half}_ahead"):
            return (self.window - self.step) // 2
        return self.window - self.step if half == "encoder" else 0

    def context(self, half: str) -> tuple[int, int]:
        """Frames before and after its own on which a code ("encoder") or a frame's sound ("decoder") may depend."""
        rights, before = self.rights(half), self.before(half)
        blocks = sum(self.kernel - 1 - right for right in rights)
        reach = before if half == "encoder" else self.window - before - self.step
        fine = (self.kernel - 1) * self.fine_blocks * self.step if half == "decoder" else 0
        ahead = self.window - before - self.step if half == "encoder" else before
        return blocks + math.ceil((fine + reach) / self.hop), sum(rights) + math.ceil(ahead / self.hop)


class Block(nn.Module):
    """ConvNeXt in one dimension: depthwise convolution, norm, widen, ReLU, narrow, added with a learned scale.

    ReLU, which Liu et al. (§2.6) found as good as GELU: GELU takes a quarter of a block's time on a processor.
    """

    def __init__(self, size: int, inner: int, kernel: int, right: int, scale: float) -> None:
        super().__init__()
        self.sides = (kernel - 1 - right, right)
        self.depthwise = nn.Conv1d(size, size, kernel, groups=size)
        self.norm = nn.LayerNorm(size)
        self.widen, self.narrow = nn.Linear(size, inner), nn.Linear(inner, size)
        self.scale = nn.Parameter(torch.full((size,), scale))

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        # In float32 under autocast too: no product of matrices is in it, and bf16 takes twice as long.
        with torch.autocast(hidden.device.type, enabled=False):
            mixed = self.norm(depthwise(hidden, self.depthwise, self.sides))
        return hidden + self.scale * self.narrow(F.relu(self.widen(mixed)))


def depthwise(hidden: Tensor, convolution: nn.Conv1d, sides: tuple[int, int]) -> Tensor:
    """Depthwise convolution over T of (B, T, D), zeros at the sides.

    Frames that lie width last are what a two-dimensional convolution calls channels-last, one row high. In this
    layout it takes a fifth of the time of `conv1d` on a processor, and nothing is transposed for the layers around.
    """
    image = F.pad(hidden, (0, 0, *sides)).transpose(1, 2).unsqueeze(2)  # (B, D, 1, T + K - 1)
    weight = convolution.weight.unsqueeze(2)
    mixed = F.conv2d(image, weight, convolution.bias, groups=convolution.groups)
    return mixed.squeeze(2).transpose(1, 2)


def blocks(count: int, size: int, inner: int, kernel: int, rights: list[int]) -> nn.Sequential:
    """`count` blocks, their scales begun at 1 / count (Vocos, §3.3)."""
    return nn.Sequential(*(Block(size, inner, kernel, right, 1 / count) for right in rights))


class Encoder(nn.Module):
    """Samples to latents: log-mel of the short frames, those of a frame side by side, blocks."""

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        self.filters: Tensor
        self.shape: Tensor
        self.register_buffer("filters", mel_filters(config.window, config.mels, config.sample_rate), persistent=False)
        shape = torch.hann_window(config.window)
        self.register_buffer("shape", shape / shape.sum() * 2, persistent=False)  # a sine of amplitude 1 gives 1
        self.project = nn.Linear(config.mels * config.ratio, config.size)
        rights = config.rights("encoder")
        self.blocks = blocks(config.encoder_blocks, config.size, config.inner, config.kernel, rights)
        self.norm = nn.LayerNorm(config.size)

    def forward(self, samples: Tensor) -> Tensor:
        """Samples (B, T * hop) float32 to latents (B, T, D)."""
        assert samples.ndim == 2 and samples.shape[1] % self.config.hop == 0, tuple(samples.shape)
        return self.norm(self.blocks(self.project(self.features(samples)).float()))

    def features(self, samples: Tensor) -> Tensor:
        """Log-mel amplitudes (B, T, ratio * mels) float32, about -2 to 4."""
        config, before = self.config, self.config.before("encoder")
        with torch.autocast(samples.device.type, enabled=False):
            padded = F.pad(samples, (before, config.window - config.step - before))
            amplitudes = spectra(padded, self.shape, config.step).abs()
            features = (amplitudes @ self.filters).clamp(min=FLOOR).log() / 2 + 4
        return features.unflatten(1, (-1, config.ratio)).flatten(2)


class Decoder(nn.Module):
    """Latents to samples: blocks, short frames with blocks of their own, magnitude and phase, inverse STFT."""

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        rights, fine = config.rights("decoder"), [0] * config.fine_blocks
        self.blocks = blocks(config.decoder_blocks, config.size, config.inner, config.kernel, rights)
        self.norm = nn.LayerNorm(config.size)
        self.split = nn.Linear(config.size, config.ratio * config.fine_size)
        self.fine_blocks = blocks(config.fine_blocks, config.fine_size, config.fine_inner, config.kernel, fine)
        self.fine_norm = nn.LayerNorm(config.fine_size)
        self.spectrum = nn.Linear(config.fine_size, config.window + 2)
        self.shape: Tensor
        self.register_buffer("shape", torch.hann_window(config.window), persistent=False)

    def forward(self, latents: Tensor, postfilter: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Latents (B, T, D) to samples (B, T * hop) float32; postfilter: of the log magnitudes of `spectra`."""
        magnitudes, phases = self.spectra(latents)
        with torch.autocast(latents.device.type, enabled=False):
            if postfilter is not None:
                magnitudes = postfilter(magnitudes).clamp(max=LOUDEST)
            magnitudes = magnitudes.exp()
            frames = torch.fft.irfft(torch.complex(magnitudes * phases.cos(), magnitudes * phases.sin()), dim=-1)
            return self.join(frames)

    def spectra(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Log magnitudes and phases of short frames, (B, T * ratio, window / 2 + 1) float32 each."""
        hidden = self.split(self.norm(self.blocks(latents))).float()
        hidden = hidden.unflatten(-1, (self.config.ratio, -1)).flatten(1, 2)
        hidden = self.fine_norm(self.fine_blocks(hidden))
        with torch.autocast(hidden.device.type, enabled=False):
            magnitudes, phases = self.spectrum(hidden).chunk(2, dim=-1)
            return magnitudes.clamp(max=LOUDEST), phases

    def join(self, frames: Tensor) -> Tensor:
        """Short frames (B, N, window) to samples (B, N * step): weighted by the window, added, and evened out."""
        step, before = self.config.step, self.config.before("decoder")
        weights = self.shape.square().expand(1, frames.shape[1], -1)
        sound, weight = overlapped(frames * self.shape, step), overlapped(weights, step)
        end = before + frames.shape[1] * step
        # Where a causal stream begins, one window alone rises from zero: it may.
        return sound[:, before:end] / weight[:, before:end].clamp(min=1e-2)


class SpectralCodec(nn.Module):
    """Encoder, quantiser and decoder."""

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quantiser = ResidualQuantiser(config.size, config.codebooks, config.codebook_size, config.codebook_width)

    def forward(self, samples: Tensor, depths: Tensor | None = None) -> tuple[Tensor, Quantised]:
        """Reconstruction (B, T * hop) of samples (B, T * hop) through the first `depths` (B,) codebooks of each row."""
        quantised = self.quantiser(self.encoder(samples), depths)
        return self.decoder(quantised.values), quantised


def spectra(samples: Tensor, shape: Tensor, step: int) -> Tensor:
    """Windowed spectra (B, N, len(shape) / 2 + 1) complex of samples (B, S), one every `step`, none past the end.

    `len(shape)` is a multiple of `step`: joining whole steps has a far cheaper gradient than `stft` or `unfold`.
    """
    steps = samples[:, : samples.shape[1] // step * step].unflatten(1, (-1, step))
    width = len(shape) // step
    count = steps.shape[1] - width + 1
    frames = torch.cat([steps[:, k : k + count] for k in range(width)], dim=-1)
    return torch.fft.rfft(frames * shape)


def overlapped(frames: Tensor, step: int) -> Tensor:
    """Frames (B, N, W) added one every `step` samples: (B, (N - 1) * step + W)."""
    count, parts = frames.shape[1], frames.split(step, dim=-1)
    total = sum(F.pad(part, (0, 0, k, len(parts) - 1 - k)) for k, part in enumerate(parts))
    assert isinstance(total, Tensor) and total.shape[1] == count + len(parts) - 1
    return total.flatten(1)


def mel_filters(window: int, mels: int, sample_rate: int) -> Tensor:
    """Triangles (window / 2 + 1, mels) of height 1 from 0 Hz to half of the rate, evenly spaced in mel.

    mel = 2595 log10(1 + Hz / 700) (O'Shaughnessy 1987); a band narrower than a bin takes the bins around its centre.
    """
    bins = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, mels + 2, dtype=torch.float64) / 2595) - 1)
    width = sample_rate / window  # Hz between bins
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    low, high = torch.minimum(low, centre - width), torch.maximum(high, centre + width)
    rising, falling = (bins[:, None] - low) / (centre - low), (high - bins[:, None]) / (high - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()
