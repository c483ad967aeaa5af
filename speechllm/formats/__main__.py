"""Converts in a process of its own, whose memory ends with it.

python -m speechllm.formats FORMAT FILES FOLDER
"""

import sys
from pathlib import Path

from speechllm.formats.ctranslate2 import whisper_folder
from speechllm.formats.gguf import folder_from_gguf


def convert(kind: str, files: Path, folder: Path) -> None:
    """Turns the files of a recipe into a Hugging Face folder; kind: "whisper" or "gguf"."""
    if kind == "whisper":
        whisper_folder(files / "model.bin", files / "tokenizer.json", files / "config.json", folder)
    else:
        folder_from_gguf(files / "model.gguf", folder)


convert(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
