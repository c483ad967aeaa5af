"""Sound in: decode and guard any recording, cut it at pauses, turn it into features, vary it for training."""

from speechllm.audio.clip import Clip
from speechllm.audio.decode import AudioLimits, load, stream

__all__ = ["AudioLimits", "Clip", "load", "stream"]
