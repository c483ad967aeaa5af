"""A clip: mono audio with its rate, the one form in which sound travels through this package.

Operations return new clips. Rates change by soxr (band-limited, linear phase), as in `decode`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from speechllm.errors import AudioError

LOWEST_HZ, HIGHEST_HZ = 8_000, 192_000


def check_rate(hz: object, where: str = "the recording") -> int:
    """Give `hz` as an int; raise AudioError in one line unless it is a whole number from 8000 to 192000."""
    try:
        rate = int(hz)  # type: ignore[call-overload]
        whole = rate == hz and not isinstance(hz, (bool, str, bytes))
    except (TypeError, ValueError, OverflowError):
        rate, whole = 0, False
    if not whole or not LOWEST_HZ <= rate <= HIGHEST_HZ:
        shown_rate = " ".join(str(hz).split())[:40]
        raise AudioError(
            f"{where}: a rate of {shown_rate} Hz is not supported; use a whole number from {LOWEST_HZ} to {HIGHEST_HZ}"
        )
    return rate


@dataclass(frozen=True, eq=False)
class Clip:
    """Mono audio: `samples` (N,) float32, full scale at [-1, 1], `rate` in Hz (8000 to 192000)."""

    samples: np.ndarray  # (N,) float32
    rate: int  # Hz

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples)
        if samples.ndim != 1:
            raise AudioError(f"a clip holds mono samples (N,), not shape {samples.shape}")
        if not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(f"a clip holds float samples, not {samples.dtype}; decode.load scales integers")
        object.__setattr__(self, "samples", samples.astype(np.float32, copy=False))
        object.__setattr__(self, "rate", check_rate(self.rate, "the clip"))

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate

    def resampled(self, hz: int) -> Clip:
        """The same sound at `hz`; itself when the rate is already that."""
        hz = check_rate(hz, "the new rate")
        if hz == self.rate:
            return self
        if not len(self.samples):
            return Clip(self.samples, hz)
        return Clip(soxr.resample(self.samples, self.rate, hz), hz)

    def cut(self, start_seconds: float, end_seconds: float) -> Clip:
        """The stretch from `start_seconds` to `end_seconds`, moved inside the clip; a view, not a copy."""
        start, end = (round(max(0.0, seconds) * self.rate) for seconds in (start_seconds, end_seconds))
        return Clip(self.samples[start : max(start, end)], self.rate)
