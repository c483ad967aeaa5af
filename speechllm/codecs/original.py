"""The original `encodec` package behind the contract of `codecs/base.py`: its causal 24 kHz model.

An optional extra for comparing with published figures; transformers' `EncodecModel` (`codecs/hub.py`) is the same
network and needs none of it. Release 0.1.1, the newest, is licensed CC BY-NC 4.0 (not for commercial use;
its repository turned MIT later), imports torchaudio, which a CPU build of torch lacks, and fetches its weights
itself, checked by hash. Streams in one piece at the end.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechllm import devices
from speechllm.codecs.base import Codec
from speechllm.errors import DataError, WeightsError

NEEDS = (
    "it needs encodec and a torchaudio that fits the installed torch: pip install encodec torchaudio "
    '(encodec 0.1.1 is CC BY-NC); "facebook/encodec_24khz" is the same codec without them'
)


class OriginalEncodec(Codec):
    """`encodec.EncodecModel` for mono sound without normalisation; `bandwidth` in kbit/s, the highest by default."""

    def __init__(self, model: Any, bandwidth: float | None = None, device: torch.device | None = None) -> None:
        """Raises DataError for a bandwidth that the model does not have, WeightsError for a stereo model."""
        if model.channels != 1 or model.normalize or model.segment is not None:
            raise WeightsError("this EnCodec is stereo or stores a loudness a segment: codes alone do not hold it")
        bandwidth = max(model.target_bandwidths) if bandwidth is None else bandwidth
        try:
            model.set_target_bandwidth(bandwidth)
        except ValueError as error:
            known = ", ".join(f"{each:g}" for each in model.target_bandwidths)
            raise DataError(f"bandwidth {bandwidth} is not one of this codec's: {known} kbit/s") from error
        self.name = "encodec"
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device).eval()
        self.sample_rate, self.frame_rate = int(model.sample_rate), float(model.frame_rate)
        self.codebook_size = int(model.quantizer.bins)
        bits = math.log2(self.codebook_size) * self.frame_rate
        self.codebooks = min(model.quantizer.n_q, max(1, math.floor(bandwidth * 1000 / bits)))
        self.is_causal = True

    def _encode(self, samples: Tensor) -> Tensor:
        [(codes, _)] = self.model.encode(samples[None, None])
        return codes[0]

    def _decode(self, codes: Tensor) -> Tensor:
        return self.model.decode([(codes[None], None)])[0, 0]


def load(
    device: str | None = None, *, bandwidth: float | None = None, repository: Path | None = None
) -> OriginalEncodec:
    """The package's 24 kHz model; repository: a folder with its checkpoint, None to let the package fetch it.

    Raises WeightsError, in one line with what to install, where the package or its weights cannot be had.
    """
    try:
        from encodec import EncodecModel  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError) as error:  # OSError: a torchaudio built for another torch
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"the original encodec cannot be imported ({reason}): {NEEDS}") from error
    try:
        model = EncodecModel.encodec_model_24khz(pretrained=True, repository=repository)
    except Exception as error:  # of the network, the folder, the hash
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"the original encodec's weights cannot be had: {reason}") from error
    return OriginalEncodec(model, bandwidth, torch.device(devices.checked(device)))
