"""Says answers aloud: takes what a request writes and gives its sound, in the model's own voice or a given one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from speechllm import spoken_text
from speechllm.answer import Answer
from speechllm.audio.clip import Clip
from speechllm.audio.decode import AudioLimits, load
from speechllm.audio.save import Sound
from speechllm.audio.segments import SpeechDetector
from speechllm.encoders.ctc import ALPHABET
from speechllm.errors import TaskError
from speechllm.request import Request, Speech
from speechllm.speaking import Piece, Sampling

if TYPE_CHECKING:
    from speechllm.model import SpeechLLM
    from speechllm.voice import Said, Voice
    from speechllm.voice_prompt import VoicePrompt

FOLDER = "voice"  # of what speaks, in a model's folder
CUT_COST = 100.0  # a way of saying that had to be cut is worse than any that was not


class Aloud:
    """The voice of a model; loaded when first asked for."""

    def __init__(self, model: SpeechLLM, detector: SpeechDetector, limits: AudioLimits) -> None:
        self.model, self.detector, self.limits = model, detector, limits

    @property
    def folder(self) -> Path | None:
        """What speaks; None: the model does not."""
        folder = None if self.model.folder is None else self.model.folder / FOLDER
        return folder if folder is not None and (folder / "config.json").is_file() else None

    @cached_property
    def voice(self) -> Voice:
        """The loaded voice. Raises WeightsError where it is damaged."""
        from speechllm.voice import Voice

        assert self.folder is not None, "`check` comes first"
        return Voice.load(self.folder, self.model)

    def check(self, request: Request) -> None:
        """Raise TaskError for what is known to be unsayable before any work is done."""
        if self.folder is None:
            raise TaskError(f"this model does not speak: task {request.task.name!r} needs one with a folder {FOLDER!r}")
        assert request.speech is not None
        if request.speech.lang is not None:
            self.voice.check(request.speech.lang)
        if request.task.reads and request.task.copies:
            spoken_text.fit(request.reading or "", request.speech.lang or "en")

    def said(self, request: Request, steps: Iterator[Any]) -> Iterator[Any]:
        """The steps of a request, then the sound of its answer as Clips, and the Answer with all of it."""
        speech = request.speech
        assert speech is not None
        began = time.perf_counter()
        prompt = self.prompt(speech)
        for step in steps:
            if not isinstance(step, Answer):
                yield step
                continue
            answer = step
        if not answer.text.strip():
            yield answer
            return
        lang = speech.lang or (answer.language if not request.task.reads else None) or "en"
        self.voice.check(lang)
        clips: list[Clip] = []
        pieces: list[Piece] = []
        asked, first = time.perf_counter(), 0.0
        for clip in self.clips(answer.text, lang, prompt, speech, pieces):
            if clip.samples.size:
                first = first or time.perf_counter() - began
                clips.append(clip)
                yield clip
        now = time.perf_counter()
        whole = Sound(np.concatenate([clip.samples for clip in clips]), clips[0].rate)
        timings = {**answer.timings, "first_audio": first, "say": now - asked, "total": now - began}
        is_cut = any(piece.is_cut for piece in pieces)
        yield replace(answer, audio=whole, timings=timings, finish="length" if is_cut else answer.finish)

    def clips(
        self, text: str, lang: str, prompt: VoicePrompt | None, speech: Speech, pieces: list[Piece] | None = None
    ) -> Iterator[Clip]:
        """The sound of a text; raises TaskError for one that cannot be said. pieces: filled with what is said."""
        choose = self._best(speech.best_of) if speech.best_of > 1 else None
        sentences = spoken_text.fit(text, lang)
        return self.voice.say(sentences, lang, prompt, Sampling(seed=speech.seed), choose, pieces)

    def prompt(self, speech: Speech) -> VoicePrompt | None:
        """Who shall speak; raises AudioError for a recording that holds no voice."""
        from speechllm.voice_prompt import listen

        if speech.voice is None:
            return None
        clip = load(speech.voice, self.limits)
        return listen(clip, self.model.ear, self.voice.codec, self.detector, speech.voice_text)

    def _best(self, ways: int) -> Callable[[str, Iterable[Said]], Said]:
        """Chooses by how well the first pass hears the letters."""

        def choose(sentence: str, said: Iterable[Said]) -> Said:
            return min(islice(said, ways), key=lambda each: self._unheard(sentence, each))

        return choose

    def _unheard(self, sentence: str, said: Said) -> float:
        """CTC loss a letter of the sentence in its sound (Graves et al. 2006, eq. 8)."""
        ear = self.model.ear
        _, log_probs, lengths = ear.first_pass(*ear.frames(said.clip))
        wanted = torch.tensor([ALPHABET.encode(sentence)])
        letters = torch.tensor([wanted.shape[1]])
        scores = log_probs.float().cpu().transpose(0, 1)
        loss = F.ctc_loss(scores, wanted, lengths.cpu(), letters, reduction="none", zero_infinity=False)
        return float(loss[0]) / max(1, wanted.shape[1]) + CUT_COST * said.is_cut
