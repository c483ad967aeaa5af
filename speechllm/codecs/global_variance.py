"""A postfilter that makes decoded spectra vary as much as those of a voice do.

What least squares predicts is an average, and averages are flat: their spectra move too little in every bin, and so
voices sound alike and dull. Mean and deviation of each bin are made those of recordings of the voice (Silén et al.
2012, "Ways to implement global variance in statistical speech synthesis").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

SPEECH = 30.0  # dB below the loudest frame: what is softer is no speech, and not counted
STRENGTH = 1.3  # of the way to the voice's moments; beyond 1, since the frames that tell it were fitted before
MOST_SHIFT, MOST_MOVE = 1.25, 2.0  # of a bin, nepers: for all frames, and of what is stretched
LEAST_WIDER, MOST_WIDER = 0.7, 1.5  # deviation over that before


@dataclass(frozen=True)
class GlobalVariance:
    """For one voice, three numbers a bin (F,)."""

    mean: Tensor  # of log magnitudes as they are predicted
    shift: Tensor  # to be added
    wider: Tensor  # by which they shall vary more

    @classmethod
    def between(cls, predicted: Tensor, real: Tensor) -> GlobalVariance:
        """Log magnitudes (N, F) as they are predicted, (M, F) as they should be, of the same voice."""
        mean, deviation = _moments(predicted)
        wanted_mean, wanted_deviation = _moments(real)
        wider = (wanted_deviation / deviation.clamp(min=1e-3)).clamp(LEAST_WIDER, MOST_WIDER)
        return cls(mean, (wanted_mean - mean).clamp(-MOST_SHIFT, MOST_SHIFT), wider)

    def __call__(self, magnitudes: Tensor) -> Tensor:
        """Log magnitudes (…, F) moved to the voice's."""
        moved = (magnitudes - self.mean).clamp(-MOST_MOVE, MOST_MOVE) * (self.wider - 1)
        return magnitudes + STRENGTH * (self.shift + moved)


def _moments(magnitudes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (F,) over the frames of speech."""
    loudness = (2 * magnitudes).logsumexp(-1)
    spoken = magnitudes[loudness >= loudness.max() - SPEECH / 10 * math.log(10)]
    return spoken.mean(0), spoken.std(0, correction=0)
