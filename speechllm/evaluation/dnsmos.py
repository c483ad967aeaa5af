"""How good speech sounds, without a reference: DNSMOS P.835 (Reddy et al. 2022, "DNSMOS P.835", §4).

A network of its authors (MIT), trained on listeners' scores, gives 1 to 5 for the speech, the background and the whole.
It hears windows of 9 seconds, one every second; a shorter clip is repeated. Clean recordings come to about 3.3 overall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechllm import weights
from speechllm.audio.clip import Clip
from speechllm.errors import AudioError

HZ = 16_000
WINDOW = 144_160  # samples: 9.01 s
# The authors' curves from what the network gives to what listeners gave: constant, linear, square.
CURVES = np.array([
    [0.0052439, 1.22083953, -0.08397278],
    [-0.39604546, 1.60915514, -0.13166888],
    [0.04602535, 1.11546468, -0.06766283],
])  # fmt: skip


@dataclass(frozen=True)
class Quality:
    """Scores from 1, bad, to 5, excellent."""

    speech: float
    background: float
    overall: float


class DNSMOS:
    """The network, loaded once."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        path = weights.get("dnsmos") / "sig_bak_ovr.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def score(self, clip: Clip) -> Quality:
        """The mean over a clip's windows; raises AudioError for an empty one."""
        samples = clip.resampled(HZ).samples.clip(-1, 1)
        if not len(samples):
            raise AudioError("the clip is empty: there is nothing to score")
        samples = np.tile(samples, -(-WINDOW // len(samples))) if len(samples) < WINDOW else samples
        starts = range(0, len(samples) - WINDOW + 1, HZ)
        windows = np.stack([samples[start : start + WINDOW] for start in starts]).astype(np.float32)
        given = np.concatenate([np.asarray(self.session.run(None, {"input_1": one[None]})[0]) for one in windows])
        powers = given[:, :, None] ** np.arange(3)
        return Quality(*map(float, (powers * CURVES).sum(-1).mean(0)))
