"""An inaudible mark in generated speech, so that it can be told from a recording later.

    marked = mark(clip)
    detect(marked).is_marked        # True, also after MP3, telephone sound, other rates, a cut of 3 s

Spread spectrum (Cox et al. 1997, "Secure spread spectrum watermarking for multimedia"): a noise pattern with a period
of 1 s, from 800 to 3400 Hz, is laid under the sound in frames of 24 ms that give it the host's own smoothed spectrum,
14 dB below. The detector makes the spectrum of what it hears flat, folds it at the period and correlates it with the
pattern at every shift: a peak says that the mark is there. The pattern is a sum of whole Hz, the same at every rate.

Sound over mark is 26 dB on read speech (segmental: 29 dB): the mark has only a part of the spectrum.
`bench/watermark.py` measures that and how often the mark is found. It tells where sound came from; it does not
withstand someone who reads this file and wants it gone, a change of speed or pitch, or a noise over the pauses.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from speechllm.audio.clip import Clip, check_rate

LOW_HZ, HIGH_HZ = 800, 3_400  # telephone sound keeps this band
KEY = b"speechllm generated speech 1"  # what the pattern is made from: another key, another mark
BELOW_HOST_DB = 14.0  # of the mark, within its band
_FRAME_SECONDS = 0.024  # two hops; what a marker is late by
_SMOOTH_HZ = 350.0  # width of the means that make the host's spectrum smooth
_BLOCK_SECONDS = 10  # marked at a time, so that an hour takes little memory

_DETECTOR_HZ = 8_000
_DETECTOR_FRAME = 256  # samples at 8 kHz: 32 ms
_QUIET_DB = 80.0  # what is so far below the loudest is not raised: rounding and codecs have taken its mark
_STRETCH_SECONDS = 10.0  # looked through at a time, every 5 s: a marked part between others is found, too
_FALSE_ALARMS = 1e-5  # of a recording without a mark


class Marker:
    """Marks a stream of samples at `rate` Hz; how it is cut into pieces changes nothing.

    Samples come back at most 24 ms late; joined, they are as many as went in. Raises AudioError for a rate that no clip
    has.
    """

    def __init__(self, rate: int) -> None:
        self.rate = check_rate(rate, "the marker")
        self._hop = round(self.rate * _FRAME_SECONDS / 2)
        self._window = _window(2 * self._hop).astype(np.float32)
        self._begin()

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples (N,) float32 and give those marked ones that are settled, (M,) float32."""
        samples = np.asarray(samples, np.float32)
        assert samples.ndim == 1, samples.shape
        self._owed += len(samples)
        return self._marked(samples)

    def finish(self) -> np.ndarray:
        """The rest of the marked samples, (M,) float32; the marker is then as new."""
        owed = self._owed
        rest = self._marked(np.zeros(2 * self._hop, np.float32))[:owed]
        self._begin()
        return rest

    def _begin(self) -> None:
        self._held = np.zeros(self._hop, np.float32)  # samples from the next frame's begin on; first, a hop of nothing
        self._tail = np.zeros(self._hop, np.float32)  # second half of the last frame's mark
        self._start = -self._hop  # place of `_held[0]` in the stream
        self._owed = 0  # how many went in and did not come out

    def _marked(self, samples: np.ndarray) -> np.ndarray:
        hop = self._hop
        held = np.concatenate([self._held, samples])
        frames = len(held) // hop - 1
        if frames < 1:
            self._held = held
            return held[:0]
        places = hop * np.arange(frames)[:, None] + np.arange(2 * hop)
        noise = pattern(self.rate)[(self._start + places) % self.rate]
        marks = self._shaped(noise * self._window, held[places] * self._window) * self._window
        before = np.concatenate([self._tail[None], marks[:-1, hop:]])
        settled = held[: frames * hop] + (before + marks[:, :hop]).ravel()
        settled = settled[max(0, -self._start) :]  # without the hop before the stream
        self._held, self._tail = held[frames * hop :].copy(), marks[-1, hop:].copy()
        self._start += frames * hop
        self._owed -= len(settled)
        return settled

    def _shaped(self, noise: np.ndarray, hosts: np.ndarray) -> np.ndarray:
        """Noise (F, W) with the smoothed spectra of the hosts (F, W), so many dB below them."""
        envelopes = _smoothed(np.abs(np.fft.rfft(hosts)), round(_SMOOTH_HZ * hosts.shape[1] / self.rate))
        size = np.sqrt(np.square(self._window).sum() * self.rate / (2 * (HIGH_HZ - LOW_HZ)))  # RMS of the noise's bins
        shaped = np.fft.rfft(noise) * envelopes * (10 ** (-BELOW_HOST_DB / 20) / size)
        return np.fft.irfft(shaped, hosts.shape[1]).astype(np.float32)


@dataclass(frozen=True)
class Detection:
    """What was found in a recording."""

    is_marked: bool  # the score is above the threshold
    score: float  # correlation with the pattern at the best shift, in deviations over all shifts
    threshold: float  # higher for a longer recording, in which chance has more tries


def mark(clip: Clip) -> Clip:
    """The clip with the mark in it, of the same rate and length."""
    marker, size = Marker(clip.rate), _BLOCK_SECONDS * clip.rate
    parts = [marker.push(clip.samples[start : start + size]) for start in range(0, len(clip.samples), size)]
    return Clip(np.concatenate([*parts, marker.finish()]), clip.rate)


def detect(clip: Clip) -> Detection:
    """Look for the mark in a clip of any rate and length; speech of 3 s is enough, of 1 s half the time.

    A long clip is looked through in stretches, and the best one counts: memory does not grow with the length.
    """
    size = round(_STRETCH_SECONDS * clip.rate)
    starts = range(0, max(1, len(clip.samples) - size // 2), size // 2)
    score = max(_score(Clip(clip.samples[start : start + size], clip.rate)) for start in starts)
    least = threshold(len(starts))
    return Detection(score > least, score, least)


def threshold(stretches: int) -> float:
    """The score that a recording of so many stretches without a mark passes once in 100,000 times.

    Its correlation with the pattern is, over the shifts, Gaussian noise with the pattern's spectrum. Rice's formula
    gives how often such noise crosses a level, up or down, in one period.
    """
    spread_hz = np.sqrt((HIGH_HZ**3 - LOW_HZ**3) / (3 * (HIGH_HZ - LOW_HZ)))  # RMS frequency of a flat band
    return float(np.sqrt(2 * np.log(2 * spread_hz * stretches / _FALSE_ALARMS)))


@lru_cache(maxsize=8)
def pattern(rate: int) -> np.ndarray:
    """One second of the pattern at `rate` Hz: (rate,) float32 of unit variance; not to be written to."""
    phases = np.frombuffer(hashlib.shake_256(KEY).digest(2 * (HIGH_HZ - LOW_HZ)), "<u2") * (2 * np.pi / 2**16)
    spectrum = np.zeros(rate // 2 + 1, np.complex128)
    spectrum[LOW_HZ:HIGH_HZ] = np.exp(1j * phases)
    made = (np.fft.irfft(spectrum, rate) * rate / np.sqrt(2 * (HIGH_HZ - LOW_HZ))).astype(np.float32)
    made.flags.writeable = False
    return made


def _score(clip: Clip) -> float:
    """Largest correlation with the pattern over all shifts, in either polarity, over their root mean square."""
    period = _DETECTOR_HZ
    flat = _flattened(clip.resampled(_DETECTOR_HZ).samples)
    folded = np.pad(flat, (0, -len(flat) % period)).reshape(-1, period).sum(axis=0)
    found = np.fft.irfft(np.fft.rfft(folded) * np.conj(np.fft.rfft(pattern(_DETECTOR_HZ))), period)
    deviation = np.sqrt(np.mean(np.square(found)))
    return float(np.abs(found).max() / deviation) if deviation > 0 else 0.0


def _flattened(samples: np.ndarray) -> np.ndarray:
    """Sound at 8 kHz (N,) with every bin of its short-time spectrum at the same size, and only the band of the mark.

    Harmonics, loud and of the host, then weigh no more than the valleys between them.
    """
    hop = _DETECTOR_FRAME // 2
    window = _window(_DETECTOR_FRAME)
    padded = np.pad(samples, (hop, hop + -len(samples) % hop))
    places = hop * np.arange(len(padded) // hop - 1)[:, None] + np.arange(_DETECTOR_FRAME)
    spectra = np.fft.rfft(padded[places] * window)
    hz = np.fft.rfftfreq(_DETECTOR_FRAME, 1 / _DETECTOR_HZ)
    spectra *= (hz >= LOW_HZ) & (hz <= HIGH_HZ)
    sizes = np.abs(spectra)
    spectra /= sizes + sizes.max() * 10 ** (-_QUIET_DB / 20) + np.finfo(np.float32).tiny
    pieces = np.fft.irfft(spectra, _DETECTOR_FRAME) * window
    flat = np.zeros(len(padded))
    flat[:-hop] += pieces[:, :hop].ravel()
    flat[hop:] += pieces[:, hop:].ravel()
    return flat[hop : hop + len(samples)]


def _window(size: int) -> np.ndarray:
    """Square root of a Hann window (size,): applied twice, frames that overlap by half add up to one."""
    return np.sin(np.pi * np.arange(size) / size)


def _smoothed(sizes: np.ndarray, bins: int) -> np.ndarray:
    """Means over about `bins` neighbours in each row of (F, B); at its ends, over those that are there."""
    places, count = np.arange(sizes.shape[1]), sizes.shape[1]
    low, high = np.maximum(places - bins // 2, 0), np.minimum(places + bins // 2 + 1, count)
    sums = np.cumsum(np.pad(sizes, ((0, 0), (1, 0))), axis=1)
    return (sums[:, high] - sums[:, low]) / (high - low)
