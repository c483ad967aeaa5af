"""An open speech language model: it hears, transcribes, translates, answers and follows instructions.

`Assistant("pocket").run("transcribe", audio="talk.ogg").text` is the shortest use of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechllm.assistant import Answer, Assistant
    from speechllm.audio.clip import Clip
    from speechllm.model import SpeechLLM, SpeechLLMConfig
    from speechllm.processor import SpeechLLMProcessor

__version__ = "0.1.0"

# Loaded when first asked for: torch and transformers take seconds, `import speechllm` must not.
_MODULES = {
    "Answer": "speechllm.assistant",
    "Assistant": "speechllm.assistant",
    "Clip": "speechllm.audio.clip",
    "SpeechLLM": "speechllm.model",
    "SpeechLLMConfig": "speechllm.model",
    "SpeechLLMProcessor": "speechllm.processor",
}

__all__ = ["Answer", "Assistant", "Clip", "SpeechLLM", "SpeechLLMConfig", "SpeechLLMProcessor", "__version__"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'speechllm' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
