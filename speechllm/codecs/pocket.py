"""The pocket codec: 16 kHz speech to 50 frames a second of 8 codes and back, small enough to learn on a processor.

    codec = codecs.load("pocket")                # or a folder that `recipes/pocket-codec.yaml` made
    codes = codec.encode(clip)                   # (8, T)
    coarse = codec.decode(codes[:2])             # 1 to 8 codebooks decode

The network is `codecs/spectral.py`. A folder holds its sizes, config.json, and model.safetensors. Long
recordings are worked on in pieces, which give what the whole gives; so do the chunks of a stream.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechllm import codecs, devices, weights
from speechllm.audio.clip import Clip
from speechllm.codecs.base import Codec, Window
from speechllm.codecs.global_variance import GlobalVariance
from speechllm.codecs.spectral import SpectralCodec, SpectralConfig
from speechllm.errors import DataError, WeightsError
from speechllm.formats import tensors

WEIGHTS = "pocket-codec"  # what `weights.get` calls the shipped one
TENSORS = "model.safetensors"
PIECE = 500  # frames that are worked on at once


class PocketCodec(Codec):
    """A trained `SpectralCodec` behind the contract; computes in float32, so that codes are the same everywhere."""

    def __init__(
        self, model: SpectralCodec, name: str, codebooks: int | None = None, device: torch.device | None = None
    ) -> None:
        """codebooks: how many `encode` gives, the coarse ones first; None: all. Raises DataError for another number."""
        config = model.config
        most = config.codebooks
        if codebooks is not None and (isinstance(codebooks, bool) or codebooks not in range(1, most + 1)):
            raise DataError(f"codebooks {codebooks} is not a whole number from 1 to {most}")
        self.device = device or torch.device("cpu")
        self.model = model.float().eval().requires_grad_(False).to(self.device)
        self.name, self.config, self.codebooks = name, config, codebooks or most
        self.sample_rate, self.frame_rate = config.sample_rate, config.frame_rate
        self.codebook_size = config.codebook_size
        self.context = config.context("decoder")
        self.is_causal = self.context[1] == 0

    @torch.inference_mode()
    def latents(self, codes: Tensor) -> Tensor:
        """What codes (K', T) stand for, (T, D): the sum of their entries, which the decoder makes sound of."""
        return self.model.quantiser.decode(self.checked(codes)[None])[0]

    @torch.inference_mode()
    def stream_latents(self, chunks: Iterable[Tensor], voice: GlobalVariance | None = None) -> Iterator[Clip]:
        """The sound of latents that arrive as chunks (t, D), as soon as it is settled.

        voice: what their spectra are moved to; None: they stay as they are.
        """
        assert self.context is not None
        window = Window(partial(self._sound_of, voice=voice), *self.context, scale=self.hop_length)
        for chunk in chain(chunks, [None]):
            given = None if chunk is None else chunk.to(self.device, torch.float32).T
            settled = window(given, given is None)
            if settled is not None and settled.numel():
                yield self._clip(settled)

    def _encode(self, samples: Tensor) -> Tensor:
        padded = F.pad(samples, (0, -len(samples) % self.hop_length))
        left, right = self.config.context("encoder")
        return _by_pieces(self._codes, padded, left, right, unit=self.hop_length)

    def _decode(self, codes: Tensor) -> Tensor:
        assert self.context is not None
        return _by_pieces(self._sound, codes, *self.context, scale=self.hop_length)

    def _codes(self, samples: Tensor) -> Tensor:
        """Codes (K, T) of samples (T * hop,)."""
        return self.model.quantiser.encode(self.model.encoder(samples[None]), self.codebooks)[0]

    @torch.inference_mode()
    def global_variance(self, predicted: Tensor, real: Tensor) -> GlobalVariance:
        """What moves spectra of latents as they are predicted of a voice, (T, D), to its real ones, (T', D)."""
        before, after = (self.model.decoder.spectra(each[None].float())[0][0] for each in (predicted, real))
        return GlobalVariance.between(before, after)

    def _sound_of(self, latents: Tensor, voice: GlobalVariance | None = None) -> Tensor:
        """Samples (T * hop,) of latents (D, T)."""
        return self.model.decoder(latents.T[None], voice)[0]

    def _sound(self, codes: Tensor) -> Tensor:
        """Samples (T * hop,) of codes (K', T)."""
        return self.model.decoder(self.model.quantiser.decode(codes[None]))[0]


def load(name_or_folder: str | Path, device: str | None = None, **options: Any) -> PocketCodec:
    """The shipped codec ("pocket") or one in a folder; the option `codebooks` chooses how many.

    Raises WeightsError where there is none to load, DataError for options that it does not have.
    """
    if others := sorted(set(options) - {"codebooks"}):
        raise DataError(f"{name_or_folder} takes the option codebooks, not {', '.join(others)}")
    folder = Path(name_or_folder).expanduser()
    if str(name_or_folder) == codecs.POCKET:
        folder = weights.get(WEIGHTS)
    model = load_model(folder)
    chosen = torch.device(devices.checked(device))
    return PocketCodec(model, str(name_or_folder), options.get("codebooks"), chosen)


def load_model(folder: Path) -> SpectralCodec:
    """The network in a folder, float32; raises WeightsError unless config.json and tensors are one codec's."""
    try:
        described = json.loads((folder / "config.json").read_text("utf-8"))
        kind = described.pop("model_type")
        if kind != codecs.POCKET_TYPE:
            raise DataError(f"its model_type is {str(kind)[:40]!r}, not {codecs.POCKET_TYPE!r}")
        known = {field.name for field in fields(SpectralConfig)}
        model = SpectralCodec(SpectralConfig(**{name: each for name, each in described.items() if name in known}))
        found = tensors.load(folder / TENSORS)
        model.load_state_dict({name: tensor.float() for name, tensor in found.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{folder} holds no pocket codec: {_line(error)}") from error
    except (RuntimeError, WeightsError, DataError) as error:
        raise WeightsError(f"{folder} holds no pocket codec to load: {_line(error)}") from error
    return model.eval()


def save_model(model: SpectralCodec, folder: Path) -> None:
    """Write config.json and the tensors, matrices in 8 bits a row."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {"model_type": codecs.POCKET_TYPE, **asdict(model.config)}
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    tensors.save(model.state_dict(), folder / TENSORS, bits=8)


def _by_pieces(
    run: Callable[[Tensor], Tensor], whole: Tensor, left: int, right: int, *, unit: int = 1, scale: int = 1
) -> Tensor:
    """`run(whole)`, at most `PIECE` new frames at once; each needs `left` frames before it and `right` after."""
    pieces = whole.split(PIECE * unit, dim=-1)
    if len(pieces) == 1:
        return run(whole)
    window = Window(run, left, right, unit=unit, scale=scale)
    settled = [*(window(piece, False) for piece in pieces), window(None, True)]
    return torch.cat([each for each in settled if each is not None], dim=-1)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
