"""What a codec is trained by: mel distances, discriminators, and a teacher's features for the first codebook.

- Log-mel distance at several windows, as in DAC (Kumar et al. 2023, §3.5), after Yamamoto et al. 2020.
- Discriminators of complex STFTs at several windows, as EnCodec's (Défossez et al. 2022, §3.4, figure 2), with hinge
  losses and relative feature matching (the same section, equation 2). Their strides over frequency are larger: what
  they cost falls to that of the codec itself.
- Distillation of the first codebook towards hidden states of an encoder by cosine, frame by frame (Défossez et al.
  2024, "Moshi", §3.3.2; Zhang et al. 2024, "SpeechTokenizer", §3.3), on features whose dimensions are standardised:
  a Whisper's have a few of huge scale, which the cosine would be of otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from speechllm.codecs.spectral import mel_filters, spectra

MEL_WINDOWS = {2048: 128, 1024: 96, 512: 64, 256: 40, 128: 20}  # samples: bands
STFT_WINDOWS = (1024, 512, 256)  # samples, of the discriminators
AUDIBLE = 1e-4  # amplitude, full scale 1; what is 80 dB below it does not count


class MelDistance(nn.Module):
    """Mean over windows of the mean absolute difference of log-mel amplitudes, in nepers (8.7 dB)."""

    def __init__(self, sample_rate: int, windows: dict[int, int] | None = None) -> None:
        super().__init__()
        self.windows = windows or MEL_WINDOWS
        for window, mels in self.windows.items():
            self.register_buffer(f"filters_{window}", mel_filters(window, mels, sample_rate), persistent=False)
            shape = torch.hann_window(window)
            self.register_buffer(f"shape_{window}", 2 * shape / shape.sum(), persistent=False)

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """Distance of waveforms (B, N) float32."""
        assert made.shape == real.shape and made.ndim == 2, (tuple(made.shape), tuple(real.shape))
        with torch.autocast(made.device.type, enabled=False):
            with torch.no_grad():
                wanted = [self.log_mel(real.float(), window) for window in self.windows]
            distances = [
                (self.log_mel(made.float(), window) - target).abs().mean()
                for window, target in zip(self.windows, wanted, strict=True)
            ]
        return torch.stack(distances).mean()

    def log_mel(self, samples: Tensor, window: int) -> Tensor:
        """Log-mel amplitudes (B, T, bands) every quarter of a window; silence where a waveform is shorter than that."""
        samples = F.pad(samples, (0, max(0, window - samples.shape[1])))
        spectrum = spectra(samples, cast(Tensor, getattr(self, f"shape_{window}")), window // 4)
        power = torch.view_as_real(spectrum).square().sum(-1)
        amplitudes = (power + AUDIBLE**2 / 100).sqrt()  # a finite slope at silence
        return (amplitudes @ cast(Tensor, getattr(self, f"filters_{window}")) + AUDIBLE).log()


class STFTDiscriminator(nn.Module):
    """Convolutions over time and frequency of a complex STFT; the score of each patch, and what each layer saw."""

    def __init__(self, window: int, channels: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("shape", torch.hann_window(window) / (window * 3 / 8) ** 0.5, persistent=False)
        widths = [2, *channels]
        # Bins: a quarter is left after each of the first two layers, a half after the next; kernels overlap by half.
        strides = [4, 4, *([2] * (len(channels) - 2))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(narrow, wide, (3, 2 * stride), (1, stride), (1, stride // 2)))
            for (narrow, wide), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.layers.append(weight_norm(nn.Conv2d(widths[-1], widths[-1], 3, padding=1)))
        self.score = weight_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores (B, 1, T, F) and features of the layers, of waveforms (B, N) float32."""
        with torch.autocast(samples.device.type, enabled=False):
            spectrum = spectra(samples, cast(Tensor, self.shape), self.window // 4)
            hidden = torch.view_as_real(spectrum).permute(0, 3, 1, 2)  # width last: channels-last in memory
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.score(hidden), features


class Discriminators(nn.Module):
    """One discriminator a window; waveforms are brought to one loudness first."""

    def __init__(self, windows: Sequence[int] = STFT_WINDOWS, channels: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.each = nn.ModuleList(STFTDiscriminator(window, channels) for window in windows)

    def forward(self, samples: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Scores and features of every discriminator, of waveforms (B, N)."""
        loudness = samples.square().mean(dim=1, keepdim=True).sqrt()
        samples = samples * (0.1 / loudness.clamp(min=1e-3))
        return [discriminator(samples) for discriminator in self.each]


Judged = list[tuple[Tensor, list[Tensor]]]


def discriminator_loss(real: Judged, made: Judged) -> Tensor:
    """Hinge loss of the discriminators: mean over them of E[max(0, 1 - D(x))] + E[max(0, 1 + D(x̂))]."""
    losses = [
        F.relu(1 - score.float()).mean() + F.relu(1 + other.float()).mean()
        for (score, _), (other, _) in zip(real, made, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_loss(made: Judged) -> Tensor:
    """Hinge loss of the generator: mean over discriminators of E[max(0, 1 - D(x̂))]."""
    return torch.stack([F.relu(1 - score.float()).mean() for score, _ in made]).mean()


def matching_loss(real: Judged, made: Judged) -> Tensor:
    """Mean over discriminators and layers of |D_l(x) - D_l(x̂)| / mean |D_l(x)|, the real side held fixed."""
    losses = [
        (feature.detach().float() - other.float()).abs().mean() / feature.detach().float().abs().mean().clamp(min=1e-6)
        for (_, features), (_, others) in zip(real, made, strict=True)
        for feature, other in zip(features, others, strict=True)
    ]
    return torch.stack(losses).mean()


class Distillation(nn.Module):
    """A linear map from the first codebook's output to a teacher's features; used in training alone."""

    def __init__(self, size: int, teacher_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(size, teacher_size)

    def forward(self, first: Tensor, features: Tensor) -> Tensor:
        """1 - cosine, its mean over the frames (B, T) whose features (B, T, D) are not all zero."""
        assert first.shape[:2] == features.shape[:2], (tuple(first.shape), tuple(features.shape))
        given = features.abs().amax(-1) > 0
        cosine = F.cosine_similarity(self.project(first).float(), features.float(), dim=-1)
        return ((1 - cosine) * given).sum() / given.sum().clamp(min=1)


def standardise(features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Features (..., D) with each dimension at mean 0 and deviation 1 of those given (D,)."""
    return (features.float() - mean) / deviation.clamp(min=1e-4)
