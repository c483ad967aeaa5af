"""G.722 telephone recordings (ITU-T G.722, 64 kbit/s, 16 kHz) as FLAC: the codec has no header to know it by."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np


def as_flac(path: Path) -> Path:
    """The FLAC version of a `.g722` file, made on first use."""
    import av
    import soundfile

    target = path.with_suffix(".flac")
    if not target.exists():
        with av.open(str(path), format="g722") as container:
            frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        partial = target.with_suffix(f".{os.getpid()}.partial")
        soundfile.write(partial, np.concatenate(frames), 16_000, format="FLAC")
        os.replace(partial, target)
    return target
