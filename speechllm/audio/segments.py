"""Where somebody speaks (Silero VAD, MIT licence, through ONNX Runtime), and long recordings cut at pauses.

The network reads windows of 512 samples at 16 kHz (32 ms), each behind the last 64 samples of the one before,
and carries a state (2, 1, 128) from window to window; it answers with the probability of speech in it.
Windows become stretches by hysteresis: speech begins at 0.5 and ends when it stays below 0.35.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from speechllm.audio.clip import Clip
from speechllm.errors import AudioError, WeightsError

HZ = 16_000
WINDOW = 512  # samples
CONTEXT = 64  # samples of the window before
_WINDOW_SECONDS = WINDOW / HZ

_BEGIN, _END = 0.5, 0.35  # probabilities between which speech stays what it was
_SHORTEST_PAUSE = 4  # windows, 128 ms: a shorter dip is part of the speech
_SHORTEST_SPEECH = 3  # windows, 96 ms: less is a click
_MARGIN = 6  # windows, 192 ms kept before and after speech: weak consonants lie there
_LONG_PAUSE = 47  # windows, 1.5 s: always a cut
_STEP = 31  # windows, 1 s: how much is read between two looks for a cut

Spans = list[tuple[int, int]]  # (first window, window after the last)


class SpeechDetector:
    """Speech probabilities of 32 ms windows; no state stays between calls, so threads may share it."""

    def __init__(self, path_to_onnx: str | os.PathLike[str]) -> None:
        import onnxruntime

        if not Path(path_to_onnx).is_file():
            raise WeightsError(f"{path_to_onnx}: no such file; it is silero_vad.onnx of the silero-vad package")
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1  # the network is too small to share out
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path_to_onnx), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions have no public root
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(f"{path_to_onnx}: not a readable ONNX network ({first_line})") from None

    def listen(self) -> Listener:
        """A fresh state, to hear one recording piece by piece."""
        return Listener(self._session)

    def probabilities(self, clip: Clip) -> np.ndarray:
        """One speech probability a window of 32 ms, (ceil(N / 512),) float32; zeros fill the last window."""
        return self.listen()(_whole_windows(clip.resampled(HZ).samples))

    def segments(self, clip: Clip) -> list[tuple[float, float]]:
        """The stretches with speech, (start, end) in seconds, in order, with margins of up to 0.19 s."""
        spans = _widened(_speech_spans(self.probabilities(clip)))
        return [(start * _WINDOW_SECONDS, min(end * _WINDOW_SECONDS, clip.seconds)) for start, end in spans]


class Listener:
    """The detector's state on its way through one recording."""

    def __init__(self, session: object) -> None:
        self._session = session
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Probabilities (n,) float32 of the next n * 512 samples."""
        assert len(samples) % WINDOW == 0, f"{len(samples)} samples are not whole windows"
        rate = np.array(HZ, np.int64)
        found = np.empty(len(samples) // WINDOW, np.float32)
        padded = np.concatenate([self._context, samples])
        for index in range(len(found)):
            window = padded[None, index * WINDOW : (index + 1) * WINDOW + CONTEXT]
            fed = {"input": window, "state": self._state, "sr": rate}
            probability, self._state = self._session.run(None, fed)  # type: ignore[attr-defined]
            found[index] = probability[0, 0]
        self._context = padded[-CONTEXT:].copy()
        return found


def cut_at_pauses(
    blocks: Iterable[Clip], detector: SpeechDetector, longest: float = 28.0
) -> Iterator[tuple[float, Clip]]:
    """The stretches with speech of a long recording, `(offset in seconds, clip)`, none above `longest`.

    `blocks` are consecutive clips at 16 kHz (`decode.stream` gives them); where they are cut changes nothing.
    A pause of 1.5 s always cuts; a stretch that grows too long is cut in the longest pause of its second
    half, or where speech is least likely. Silence between is left out. Memory: `longest` and one block.
    """
    most = int(longest / _WINDOW_SECONDS)
    if most < 2 * _LONG_PAUSE:
        raise AudioError(f"stretches of at most {longest} s are too short to cut at pauses; allow 3.1 s or more")
    cutter = _Cutter(most)
    listener = detector.listen()
    for samples, is_last in _steps(blocks):
        cutter.add(samples, listener(_whole_windows(samples)))
        yield from cutter.stretches(is_last)


class _Cutter:
    """Holds the windows from which no stretch has been taken yet."""

    def __init__(self, most: int) -> None:
        self._most = most  # windows in a stretch
        self._first = 0  # index in the recording of the first window held
        self._samples = np.zeros(0, np.float32)
        self._found = np.zeros(0, np.float32)  # a probability for each window held
        self._speaking = False  # whether the first window held goes on with speech that was cut

    def add(self, samples: np.ndarray, probabilities: np.ndarray) -> None:
        self._samples = np.concatenate([self._samples, samples])
        self._found = np.concatenate([self._found, probabilities])

    def stretches(self, is_last: bool) -> Iterator[tuple[float, Clip]]:
        """Take out every stretch whose end is certain; with `is_last`, all."""
        while True:
            spans = _speech_spans(self._found, is_last, self._speaking)
            if not spans:
                # What may yet turn out to be a beginning stays: a margin and speech still too short.
                self._drop(len(self._found) - (0 if is_last else _MARGIN + _SHORTEST_SPEECH + _SHORTEST_PAUSE))
                return
            self._drop(max(0, spans[0][0] - _MARGIN))
            spans = _speech_spans(self._found, is_last, self._speaking)
            end, goes_on = self._end(spans, is_last)
            if end == 0:
                return
            yield self._first * _WINDOW_SECONDS, Clip(self._samples[: end * WINDOW].copy(), HZ)
            self._drop(end)
            self._speaking = goes_on

    def _end(self, spans: Spans, is_last: bool) -> tuple[int, bool]:
        """The window where the first stretch ends (0: hear more first); whether speech goes on behind it."""
        held = len(self._found)
        for (_, end), (start, _) in zip(spans, [*spans[1:], (held, held)], strict=True):
            if end > self._most:
                break
            if start - end >= _LONG_PAUSE or (is_last and start == held):
                return min(end + _MARGIN, held, self._most), False
        if held < self._most + _LONG_PAUSE + _MARGIN and not is_last:
            return 0, False
        return self._best_cut(spans)

    def _best_cut(self, spans: Spans) -> tuple[int, bool]:
        """The middle of the longest pause in the second half, else the least likely window there."""
        half = self._most // 2
        pauses = [(end, min(start, self._most)) for (_, end), (start, _) in pairwise(spans) if end < self._most]
        pauses = [(end, start) for end, start in pauses if end + start >= 2 * half]
        if pauses:
            end, start = max(pauses, key=lambda pause: pause[1] - pause[0])
            return min((end + start) // 2, end + _MARGIN), False
        return half + int(self._found[half : self._most].argmin()) + 1, True

    def _drop(self, windows: int) -> None:
        windows = min(max(0, windows), len(self._found))
        if windows == 0:
            return
        self._speaking = False
        self._first += windows
        self._found = self._found[windows:]
        self._samples = self._samples[windows * WINDOW :]


def _speech_spans(probabilities: np.ndarray, is_last: bool = True, speaking: bool = False) -> Spans:
    """Hysteresis over the windows; speech that the end cuts off counts, however short, while more is to come.

    `speaking`: the first window goes on with speech.
    """
    spans: Spans = []
    start, below = 0 if speaking and len(probabilities) else None, 0
    for index, probability in enumerate(probabilities.tolist()):
        if start is None:
            if probability >= _BEGIN:
                start, below = index, 0
        elif probability >= _END:
            below = 0
        else:
            below += 1
            if below == _SHORTEST_PAUSE:
                spans.append((start, index + 1 - below))
                start = None
    if start is not None:
        spans.append((start, len(probabilities) - below))
    kept = [(start, end) for start, end in spans if end - start >= _SHORTEST_SPEECH]
    if start is not None and not is_last and (not kept or kept[-1] != spans[-1]):
        kept.append(spans[-1])
    return kept


def _widened(spans: Spans) -> Spans:
    """Each span with its margins; the gap between two is shared where it is too small for both."""
    widened: Spans = []
    for start, end in spans:
        start = max(0, start - _MARGIN)
        if widened and start < widened[-1][1]:
            middle = (start + widened[-1][1]) // 2
            widened[-1] = (widened[-1][0], middle)
            start = middle
        widened.append((start, end + _MARGIN))
    return widened


def _whole_windows(samples: np.ndarray) -> np.ndarray:
    return np.pad(samples, (0, -len(samples) % WINDOW))


def _steps(blocks: Iterable[Clip]) -> Iterator[tuple[np.ndarray, bool]]:
    """The samples in steps of one size, what is left in the last, each with whether it is the last."""
    size = _STEP * WINDOW
    held = np.zeros(0, np.float32)
    for block in blocks:
        if block.rate != HZ:
            raise AudioError(f"blocks to cut come at {HZ} Hz, not {block.rate} Hz")
        held = np.concatenate([held, block.samples])
        full = max(0, len(held) - 1) // size  # one sample at least stays for the last step
        for index in range(full):
            yield held[index * size : (index + 1) * size], False
        held = held[full * size :]
    yield held, True
