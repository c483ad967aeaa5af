"""How somebody sounds: a few seconds of codes and the letters said in them, cut from a recording.

A voice is what comes before the speech that continues it (Wang et al. 2023, "VALL-E", §5.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechllm.audio.clip import Clip
from speechllm.audio.segments import HZ, SpeechDetector
from speechllm.codecs.base import Codec
from speechllm.errors import AudioError, DataError, WeightsError
from speechllm.hearing import Ear
from speechllm.letter_times import LetterTimes
from speechllm.woven import edges, letters

LEAST_SECONDS = 1.0  # of speech
MOST_SECONDS = 6.0  # that are kept: more costs time and says little more
LONGEST_SECONDS = 28.0  # of a recording that are looked at
LOUDNESS = 0.07  # root mean square of what is kept: quiet recordings make voices that are loud enough
WIDEST_STEP = 2  # frames that a letter takes at least
MARGIN = 0.1  # seconds kept after the last word


@dataclass(frozen=True)
class VoicePrompt:
    """A stretch of somebody's speech."""

    codes: Tensor  # (K, P) int64
    letters: str  # as they are said
    spans: tuple[tuple[int, int], ...]  # (start, end) frames of each letter, `woven.SILENT` where it is silent
    text: str  # as it was written

    def bounds(self, group: int) -> list[int]:
        """Where its letters' stretches meet, one before and one after them included (`woven.edges`)."""
        return edges(self.letters, self.spans, self.codes.shape[1], group)

    def save(self, path: Path) -> None:
        """Write a safetensors file, codes in 16 bits."""
        from safetensors.torch import save_file

        tensors = {"codes": self.codes.to(torch.int16), "spans": torch.tensor(self.spans, dtype=torch.int16)}
        save_file(tensors, path, {"letters": self.letters, "text": self.text})

    @classmethod
    def load(cls, path: Path) -> VoicePrompt:
        """Read what `save` wrote; raises WeightsError for anything else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                found = file.metadata() or {}
                spans = tuple((int(start), int(end)) for start, end in file.get_tensor("spans").tolist())
                codes = file.get_tensor("codes").long()
            prompt = cls(codes, found["letters"], spans, found["text"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise WeightsError(f"{path} holds no voice: {' '.join(str(error).split())[:200]}") from error
        try:
            prompt.bounds(WIDEST_STEP)
            if letters(prompt.letters) != prompt.letters:
                raise DataError("letters that are not known")
        except (DataError, IndexError) as error:
            raise WeightsError(f"{path} holds no voice: its codes, letters and spans do not go together") from error
        return prompt


def listen(
    clip: Clip,
    ear: Ear,
    codec: Codec,
    detector: SpeechDetector,
    text: str | None = None,
    lang: str | None = None,
    times: LetterTimes | None = None,
) -> VoicePrompt:
    """The voice of a recording: its first seconds of speech, at one loudness.

    Args:
        text: what is said in it; None: it is read. lang: its language (ISO 639-1), where it is known.
        times: finds the letters in it; None: the ear, as they are written.
    Raises:
        AudioError: less than a second of speech is heard, or no word in it.
    """
    whole = clip.resampled(HZ).cut(0.0, LONGEST_SECONDS)
    spoken = _speech(whole, detector)
    if text is None:
        spoken = spoken.cut(0.0, MOST_SECONDS)
        text = ear.hear(spoken).reading.text
    said = letters(text)
    if not said:
        raise AudioError("no word is heard in the recording of the voice: give a few seconds of clear speech")
    times = times or LetterTimes(ear.first_pass)
    codes = codec.encode(spoken)
    found, most = times(*ear.frames(spoken), said, lang, codec.frame_rate), codes.shape[1]
    # The ear hears some silence after the clip too, where letters may seem to end.
    spans = tuple((min(start, most), min(end, most)) for start, end in found)
    prompt = _shortened(VoicePrompt(codes, said, spans, text), codec)
    try:
        prompt.bounds(WIDEST_STEP)
    except DataError as error:
        said = "the text of the voice is too long for its recording: give the words that are said in it"
        raise AudioError(said) from error
    return prompt


def _speech(clip: Clip, detector: SpeechDetector) -> Clip:
    """From the first word on, pauses and all, at one loudness."""
    segments = detector.segments(clip)
    seconds = sum(end - start for start, end in segments)
    if seconds < LEAST_SECONDS:
        heard = "no speech is" if not segments else f"only {seconds:.1f} s of speech are"
        raise AudioError(f"{heard} heard in the recording of the voice: give one to ten seconds of one person speaking")
    found = clip.cut(segments[0][0], segments[-1][1])
    loud = np.sqrt(np.mean(np.square(found.samples))) or 1.0
    factor = min(LOUDNESS / loud, 0.99 / max(1e-6, float(np.abs(found.samples).max())))
    return Clip(found.samples * np.float32(factor), found.rate)


def _shortened(prompt: VoicePrompt, codec: Codec) -> VoicePrompt:
    """The words that end within `MOST_SECONDS`, and the sound until a little after the last of them."""
    most = round(MOST_SECONDS * codec.frame_rate)
    margin = round(MARGIN * codec.frame_rate)
    if max(end for _, end in prompt.spans) <= most:
        return replace(prompt, codes=prompt.codes[:, : most + margin])
    ends = [i for i, letter in enumerate(prompt.letters) if letter == " " and prompt.spans[i][0] <= most]
    late = next(i for i, (_, end) in enumerate(prompt.spans) if end > most)
    kept = ends[-1] if ends else late or 1
    end = min(max(end for _, end in prompt.spans[:kept]) + margin, prompt.spans[kept][1], most)
    said = prompt.letters[:kept]
    return replace(prompt, codes=prompt.codes[:, :end], letters=said, spans=prompt.spans[:kept], text=said)
