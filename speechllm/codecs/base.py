"""The contract of a neural audio codec: a clip to codes (K, T) and back, whole or piece by piece.

    codes = codec.encode(clip)                           # (K, T) int64, K codebooks, T frames
    clip = trimmed(codec.decode(codes[:4]), samples)     # fewer codebooks: a coarser sound

T frames stand for T * hop_length samples, always: `encode` gives ceil(N / hop_length) frames for N samples at
the codec's rate, `decode` gives exactly T * hop_length samples back, so that a clip's length is kept to one
frame and `trimmed` makes it exact. A codec of your own sets the attributes and writes `_encode` and `_decode`;
it streams as soon as it says how far its decoder looks (`context`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from speechllm.audio.clip import Clip
from speechllm.errors import AudioError, DataError


class Codec(ABC):
    """Turns mono clips into residual codes, coarse codebook first, and codes into clips."""

    name: str  # by which `codecs.load` finds it again
    sample_rate: int  # Hz of the samples that it reads and gives
    frame_rate: float  # Hz of the frames: sample_rate / hop_length
    codebooks: int  # K that `encode` gives; `decode` takes 1 to K of them
    codebook_size: int  # codes are 0 to codebook_size - 1
    is_causal: bool  # a frame's sound depends on no later frame
    device: torch.device = torch.device("cpu")
    # Frames before and after a frame that its sound may depend on; None: all of them, then nothing streams.
    context: tuple[int, int] | None = None

    @abstractmethod
    def _encode(self, samples: Tensor) -> Tensor:
        """Codes (K, ceil(N / hop_length)) int64 of samples (N,) float32 at the codec's rate, N >= 1."""

    @abstractmethod
    def _decode(self, codes: Tensor) -> Tensor:
        """Samples (T * hop_length,) float32 of checked codes (K', T) int64, T >= 1."""

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return round(self.sample_rate / self.frame_rate)

    @torch.inference_mode()
    def encode(self, clip: Clip) -> Tensor:
        """Codes (K, T) int64 on the CPU of a clip of any rate; AudioError if it is empty or not finite."""
        samples = clip.resampled(self.sample_rate).samples
        if not len(samples):
            raise AudioError("the clip is empty: there is nothing to encode")
        if not np.isfinite(samples).all():
            raise AudioError("the clip holds samples that are not finite numbers")
        codes = self._encode(torch.from_numpy(np.array(samples)).to(self.device)).to("cpu", torch.long)
        assert codes.shape == (self.codebooks, -(-len(samples) // self.hop_length)), tuple(codes.shape)
        return codes

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Clip:
        """The sound of codes (K', T) int, 1 <= K' <= K: T * hop_length samples at the codec's rate.

        Raises DataError for another shape, numbers that are not whole, or codes outside the codebooks.
        """
        codes = self.checked(codes)
        if not codes.shape[1]:
            raise DataError("there are no codes to decode: 0 frames")
        samples = self._decode(codes)
        assert samples.shape == (codes.shape[1] * self.hop_length,), tuple(samples.shape)
        return self._clip(samples)

    def stream(self, chunks: Iterable[Tensor]) -> Iterator[Clip]:
        """The sound of codes that arrive as chunks (K', t), as soon as it is settled; joined, it equals `decode`.

        Without a known `context` it comes in one piece at the end. Raises DataError as `decode` does, and for
        chunks that differ in K'.
        """
        decoder, codebooks = self._stages(), None
        for chunk in chunks:
            codes = self.checked(chunk)
            if len(codes) != (codebooks := codebooks or len(codes)):
                raise DataError(f"the chunks of one stream differ: {codebooks} codebooks, then {len(codes)}")
            yield from self._pieces(decoder, codes)
        yield from self._pieces(decoder, None)

    def checked(self, codes: Tensor) -> Tensor:
        """The same codes as int64 on the codec's device; DataError unless they are codes of this codec."""
        check_codes(codes, self.codebooks, self.codebook_size)
        return codes.to(self.device, torch.long)

    def _stages(self) -> Stages:
        """What decodes a stream: a fresh one for each."""
        left, right = self.context or (0, None)
        return Stages([Window(self._decode, left, right, scale=self.hop_length)])

    @torch.inference_mode()
    def _settled(self, decoder: Stages, codes: Tensor | None) -> Tensor | None:
        return decoder(codes)

    def _pieces(self, decoder: Stages, codes: Tensor | None) -> Iterator[Clip]:
        samples = self._settled(decoder, codes)
        if samples is not None and samples.numel():
            yield self._clip(samples)

    def _clip(self, samples: Tensor) -> Clip:
        return Clip(samples.float().cpu().numpy(), self.sample_rate)


Stage = Callable[[Tensor | None, bool], Tensor | None]


class Stages:
    """Steps of a decoder, each fed with what the one before it has settled; `None` in is the end of the stream."""

    def __init__(self, steps: list[Stage]) -> None:
        self.steps = steps

    def __call__(self, piece: Tensor | None) -> Tensor | None:
        """What this piece settles; None if nothing."""
        is_last = piece is None
        for step in self.steps:
            piece = step(piece, is_last)
        return piece


class Window:
    """A convolutional step run piece by piece, equal to one run over all: (..., t * unit) in, (..., t * scale) out.

    Each run covers the new frames and as many old ones as outputs may depend on; only outputs that no later
    input can change leave. Pieces hold whole frames, but for the last one.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        left: int,
        right: int | None,
        *,
        unit: int = 1,
        scale: int = 1,
        least: int = 1,
    ) -> None:
        """left, right: frames before and after one that its output depends on (right None: all that follow).

        unit, scale: inputs and outputs a frame. least: frames to wait for before the first run, where padding
        mirrors the first ones.
        """
        self.run, self.left, self.right, self.unit, self.scale, self.least = run, left, right, unit, scale, least
        self.held: Tensor | None = None
        self.first = self.done = self.total = 0  # frames: the first one held, those settled, those that came

    def __call__(self, piece: Tensor | None, is_last: bool) -> Tensor | None:
        """The outputs that are settled now; None if there are none."""
        if piece is not None and piece.shape[-1]:
            self.held = piece if self.held is None else torch.cat([self.held, piece], dim=-1)
            self.total += -(-piece.shape[-1] // self.unit)
        until = self.total
        if not is_last:
            is_waiting = self.right is None or self.total < self.least
            until = 0 if is_waiting else self.total - (self.right or 0)
        if self.held is None or until <= self.done:
            return None
        outputs = self.run(self.held)
        settled = outputs[..., (self.done - self.first) * self.scale : (until - self.first) * self.scale]
        self.done = until
        dropped = max(0, self.done - self.left - self.first)
        self.held, self.first = self.held[..., dropped * self.unit :], self.first + dropped
        return settled


def check_codes(codes: Tensor, codebooks: int, codebook_size: int) -> None:
    """Raise DataError in one line unless `codes` (K', T) are whole, K' <= `codebooks`, each below `codebook_size`."""
    if not isinstance(codes, Tensor):
        raise DataError(f"codes are a tensor (codebooks, frames), not {type(codes).__name__}")
    if codes.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise DataError(f"codes are whole numbers (int64), not {str(codes.dtype).removeprefix('torch.')}")
    if codes.ndim != 2 or not 1 <= codes.shape[0] <= codebooks:
        raise DataError(f"codes have shape (1 to {codebooks} codebooks, frames), not {tuple(codes.shape)}")
    if codes.numel():
        low, high = (int(bound) for bound in torch.aminmax(codes))
        if low < 0 or high >= codebook_size:
            outside = low if low < 0 else high
            raise DataError(f"code {outside} is outside the codebook: codes are 0 to {codebook_size - 1}")


def trimmed(clip: Clip, samples: int) -> Clip:
    """The first `samples` samples of a decoded clip: what the last frame holds beyond the recording goes."""
    return Clip(clip.samples[:samples], clip.rate)
