"""A voice that no training heard: SVOX Pico's British English, from the package py-nanotts (Apache-2.0).

The package goes to a folder of its own in the user's cache, not into the environment.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np

from speechllm.audio.clip import Clip
from speechllm.errors import DataError
from speechllm.weights import cache_folder

PACKAGE, VERSION = "py-nanotts", "0.1.1"
VOICE = "en-GB"
RATE = 16_000  # Hz
_SILENCE = np.zeros(RATE // 4, np.float32)  # before and after, as a person would leave it


def folder() -> Path:
    """Folder with the synthesiser, installed on first use. Raises DataError when pip cannot get it."""
    place = cache_folder() / "peers" / f"{PACKAGE}-{VERSION}"
    if not (place / "py_nanotts").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--target", str(place), f"{PACKAGE}=={VERSION}"], capture_output=True, text=True
        )
        if done.returncode:
            raise DataError(f"pip cannot install {PACKAGE}=={VERSION}: {done.stderr.strip().splitlines()[-1]}")
    return place


class Speaker:
    """Says texts."""

    def __init__(self) -> None:
        sys.path.insert(0, str(folder()))
        try:
            self.voice = importlib.import_module("py_nanotts").NanoTTS()
        finally:
            sys.path.pop(0)

    def say(self, text: str, voice: str = VOICE) -> Clip:
        """The spoken text, nearly the same every time: the synthesiser keeps some state between calls."""
        samples = np.frombuffer(self.voice.speak(text, voice=voice), np.int16).astype(np.float32) / 32768
        return Clip(np.concatenate([_SILENCE, samples, _SILENCE]), RATE)
