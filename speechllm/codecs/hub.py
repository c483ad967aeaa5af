"""EnCodec, Mimi and DAC from transformers behind the contract of `codecs/base.py`.

Défossez et al. 2022 (EnCodec), Défossez et al. 2024 (Mimi), Kumar et al. 2023 (DAC). Each is taken apart into
steps: convolutions, which look a known number of frames around, and between them what remembers (an LSTM in
EnCodec, a transformer in Mimi). Fed piece by piece, the steps give what the whole model gives: so codes stream,
and a recording of an hour is encoded and decoded in bounded memory.

Limits: mono only, and no codec whose codes need more beside them: facebook/encodec_48khz is stereo and stores
a loudness with each second, so it is refused. Safetensors only, no remote code.
"""

from __future__ import annotations

import inspect
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from speechllm import devices
from speechllm.codecs.base import Codec, Stage, Stages, Window
from speechllm.errors import DataError, WeightsError

PIECE = 10.0  # seconds; longer recordings are worked on in pieces of this


class HubCodec(Codec):
    """A codec model of transformers; subclasses say how it is called and how it comes apart."""

    takes = "codebooks"  # the option that chooses how many codebooks

    def __init__(self, model: Any, name: str, codebooks: int, device: torch.device) -> None:
        self.model, self.name, self.device = model.float().eval().to(device), name, device
        self.config, self.codebooks = model.config, codebooks
        self.sample_rate, self.codebook_size = int(self.config.sampling_rate), int(self.config.codebook_size)
        self.frame_rate = self.sample_rate / self._hop_length()
        self.is_causal = bool(getattr(self.config, "use_causal_conv", False))

    @classmethod
    @abstractmethod
    def choose(cls, config: Any, wanted: Any) -> int:
        """Codebooks for the value of the option, None for all; raises DataError, or WeightsError for the model."""

    @abstractmethod
    def _hop_length(self) -> int: ...

    @abstractmethod
    def _encode_whole(self, samples: Tensor) -> Tensor:
        """Codes (K, T) of samples (N,) by the model's own `encode`."""

    @abstractmethod
    def _decode_whole(self, codes: Tensor) -> Tensor:
        """Samples (T * hop_length,) by the model's own `decode`."""

    @abstractmethod
    def _encode_steps(self) -> list[Stage] | None:
        """Steps from samples (1, 1, N) to codes (K, T); None if they cannot go piece by piece."""

    @abstractmethod
    def _decode_steps(self) -> list[Stage] | None:
        """Steps from codes (K', T) to samples (N,); None if they cannot go piece by piece."""

    def _encode(self, samples: Tensor) -> Tensor:
        size = round(PIECE * self.frame_rate) * self.hop_length
        steps = self._encode_steps() if len(samples) > size else None
        if steps is None:
            return self._encode_whole(samples)
        return _joined(Stages(steps), samples[None, None].split(size, dim=-1))

    def _decode(self, codes: Tensor) -> Tensor:
        size = round(PIECE * self.frame_rate)
        steps = self._decode_steps() if codes.shape[1] > size else None
        if steps is None:
            return self._decode_whole(codes)
        return _joined(Stages(steps), codes.split(size, dim=-1))

    def _stages(self) -> Stages:
        steps = self._decode_steps()
        return Stages([Window(self._decode_whole, 0, None, scale=self.hop_length)] if steps is None else steps)


class EncodecCodec(HubCodec):
    """EnCodec: SEANet with an LSTM, residual codebooks; `bandwidth` in kbit/s says how many."""

    takes = "bandwidth"

    @classmethod
    def choose(cls, config: Any, wanted: Any) -> int:
        if config.audio_channels != 1 or config.normalize or config.chunk_length_s is not None:
            raise WeightsError(
                "this EnCodec is stereo or stores a loudness with each chunk (as facebook/encodec_48khz), which codes "
                "alone do not hold; use facebook/encodec_24khz"
            )
        bandwidths = [float(each) for each in config.target_bandwidths]
        if wanted is not None and wanted not in bandwidths:
            known = ", ".join(f"{each:g}" for each in bandwidths)
            raise DataError(f"bandwidth {wanted} is not one of this codec's: {known} kbit/s")
        return codebooks_of(config, wanted or max(bandwidths))

    def __init__(self, model: Any, name: str, codebooks: int, device: torch.device) -> None:
        super().__init__(model, name, codebooks, device)
        # A norm over time makes every frame depend on all others; a trim on the left moves sound ahead of its frame.
        self.is_local = self.config.norm_type == "weight_norm" and self.config.trim_right_ratio == 1.0
        self.is_causal = self.is_causal and self.is_local
        enough = (each for each in self.config.target_bandwidths if codebooks_of(self.config, each) >= codebooks)
        self.bandwidth = min(enough)

    def _hop_length(self) -> int:
        return self.config.hop_length

    def _encode_whole(self, samples: Tensor) -> Tensor:
        return self.model.encode(samples[None, None], bandwidth=self.bandwidth).audio_codes[0, 0, : self.codebooks]

    def _decode_whole(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes[None, None], [None]).audio_values[0, 0]

    def _encode_steps(self) -> list[Stage] | None:
        if not self.is_local:
            return None
        layers = self.model.encoder.layers
        middle = next(i for i, layer in enumerate(layers) if hasattr(layer, "lstm"))

        def quantized(hidden: Tensor) -> Tensor:  # (1, C, T) -> (K, T)
            return self.model.quantizer.encode(after(hidden), self.bandwidth)[: self.codebooks, 0]

        before, after = nn.Sequential(*layers[:middle]), nn.Sequential(*layers[middle + 1 :])
        return [self._window(before, before), Remembering(layers[middle].lstm), self._window(after, quantized)]

    def _decode_steps(self) -> list[Stage] | None:
        if not self.is_local:
            return None
        layers = self.model.decoder.layers
        middle = next(i for i, layer in enumerate(layers) if hasattr(layer, "lstm"))

        def embedded(codes: Tensor) -> Tensor:  # (K', T) -> (1, C, T)
            return before(self.model.quantizer.decode(codes[:, None]))

        def sound(hidden: Tensor) -> Tensor:
            return after(hidden)[0, 0]

        before, after = nn.Sequential(*layers[:middle]), nn.Sequential(*layers[middle + 1 :])
        return [self._window(before, embedded), Remembering(layers[middle].lstm), self._window(after, sound)]

    def _window(self, layers: nn.Module, run: Callable[[Tensor], Tensor]) -> Window:
        return window(layers, run, self.is_causal, self.config.pad_mode)


class MimiCodec(HubCodec):
    """Mimi: SEANet with a transformer of limited history, one codebook of meaning and `codebooks` - 1 of sound."""

    @classmethod
    def choose(cls, config: Any, wanted: Any) -> int:
        if config.audio_channels != 1 or not config.use_causal_conv or config.trim_right_ratio != 1.0:
            raise WeightsError("this Mimi is stereo or not causal, which is not supported; use kyutai/mimi")
        return _codebooks(config.num_quantizers, wanted)

    def _hop_length(self) -> int:
        return round(self.config.sampling_rate / self.config.frame_rate)

    def _encode_whole(self, samples: Tensor) -> Tensor:
        least = max(self.codebooks, self.config.num_semantic_quantizers)
        return self.model.encode(samples[None, None], num_quantizers=least).audio_codes[0, : self.codebooks]

    def _decode_whole(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes[None]).audio_values[0, 0]

    def _encode_steps(self) -> list[Stage] | None:
        convolutions, transformer, downsample = _mimi_parts(self.model, "encoder", "downsample")
        least = max(self.codebooks, self.config.num_semantic_quantizers)

        def quantized(hidden: Tensor) -> Tensor:  # (1, C, 2 T) -> (K, T)
            return self.model.quantizer.encode(downsample(hidden), least)[: self.codebooks, 0]

        return [
            window(convolutions, convolutions, True, self.config.pad_mode),
            Attending(transformer, self.config),
            window(downsample, quantized, True),
        ]

    def _decode_steps(self) -> list[Stage] | None:
        convolutions, transformer, upsample = _mimi_parts(self.model, "decoder", "upsample")

        def embedded(codes: Tensor) -> Tensor:  # (K', T) -> (1, C, 2 T)
            return upsample(self.model.quantizer.decode(codes[None]))

        def sound(hidden: Tensor) -> Tensor:
            return convolutions(hidden)[0, 0]

        return [
            window(upsample, embedded, True),
            Attending(transformer, self.config),
            window(convolutions, sound, True, self.config.pad_mode),
        ]


class DacCodec(HubCodec):
    """DAC: convolutions that look both ways, factorised residual codebooks, `codebooks` of them."""

    @classmethod
    def choose(cls, config: Any, wanted: Any) -> int:
        return _codebooks(config.n_codebooks, wanted)

    def _hop_length(self) -> int:
        return self.config.hop_length

    def _encode_whole(self, samples: Tensor) -> Tensor:
        return self._quantized(self._filled(samples[None, None]))

    def _decode_whole(self, codes: Tensor) -> Tensor:
        # Odd strides lose a few samples at the end (24 kHz: 8, a third of a millisecond): silence there.
        samples = self.model.decode(audio_codes=codes[None]).audio_values[0]
        return nn.functional.pad(samples, (0, codes.shape[1] * self.hop_length - len(samples)))

    def _encode_steps(self) -> list[Stage] | None:
        def quantized(samples: Tensor) -> Tensor:
            return self._quantized(self._filled(samples))

        return [window(self.model.encoder, quantized, False)]

    def _decode_steps(self) -> list[Stage] | None:
        return [window(self.model.decoder, self._decode_whole, False)]

    def _quantized(self, samples: Tensor) -> Tensor:
        return self.model.encode(samples, n_quantizers=self.codebooks).audio_codes[0]

    def _filled(self, samples: Tensor) -> Tensor:
        """Samples (1, 1, N) with silence up to the end of the last frame, as DAC's own feature extractor does."""
        return nn.functional.pad(samples, (0, -samples.shape[-1] % self.hop_length))


class Remembering:
    """EnCodec's residual LSTM, (1, C, t) a piece: its state goes from piece to piece."""

    def __init__(self, lstm: nn.LSTM) -> None:
        self.lstm, self.state = lstm, None

    def __call__(self, piece: Tensor | None, is_last: bool) -> Tensor | None:
        if piece is None:
            return None
        inputs = piece.permute(2, 0, 1)
        outputs, self.state = self.lstm(inputs, self.state)
        return (outputs + inputs).permute(1, 2, 0)


class Attending:
    """Mimi's transformer, (1, C, t) a piece: its cache goes from piece to piece and forgets what is out of reach."""

    def __init__(self, transformer: nn.Module, config: Any) -> None:
        from transformers import DynamicCache

        self.transformer, self.cache = transformer, DynamicCache(config=config)
        known = inspect.signature(transformer.forward).parameters
        self.keyword = "cache" if "cache" in known else "past_key_values"  # transformers renamed it

    def __call__(self, piece: Tensor | None, is_last: bool) -> Tensor | None:
        if piece is None:
            return None
        given = {self.keyword: self.cache, "use_cache": True}
        return self.transformer(piece.transpose(1, 2), **given).last_hidden_state.transpose(1, 2)


FAMILIES: dict[str, tuple[str, type[HubCodec]]] = {
    "encodec": ("EncodecModel", EncodecCodec),
    "mimi": ("MimiModel", MimiCodec),
    "dac": ("DacModel", DacCodec),
}


def load(name_or_folder: str | Path, device: str | None = None, **options: Any) -> HubCodec:
    """EnCodec, Mimi or DAC by hub id or folder; raises as `codecs.load` does."""
    import transformers

    from speechllm import weights

    chosen = torch.device(devices.checked(device))
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        folder = weights.get(name_or_folder)
    kind = model_type(folder)
    if kind not in FAMILIES:
        raise WeightsError(f"{name_or_folder} is no codec: model_type {kind[:40]!r}, not {', '.join(FAMILIES)}")
    model_class, family = FAMILIES[kind]
    if others := [each for each in options if each != family.takes]:
        raise DataError(f"{name_or_folder} takes the option {family.takes}, not {', '.join(others)}")
    source = getattr(transformers, model_class)
    try:
        config = source.config_class.from_pretrained(folder)
    except Exception as error:  # of JSON, of the config's own checks
        raise WeightsError(f"{name_or_folder}: its config.json is no {kind} codec's: {_line(error)}") from error
    codebooks = family.choose(config, options.get(family.takes))
    try:
        with _no_bars():
            model, report = source.from_pretrained(
                folder, config=config, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # of files, safetensors, shapes
        raise WeightsError(f"{name_or_folder} holds no {kind} codec to load: {_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(f"{name_or_folder} lacks {len(missing)} tensors of a {kind} codec, such as {missing[0]}")
    return family(model, str(name_or_folder), codebooks, chosen)


def model_type(folder: Path) -> str:
    """What a folder's config.json calls itself; WeightsError where there is none to read."""
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{folder} holds no codec: its config.json does not say a model_type") from error


def codebooks_of(config: Any, bandwidth: float) -> int:
    """Codebooks that an EnCodec uses at a bandwidth in kbit/s (Défossez et al. 2022, §3.2)."""
    bits = math.log2(config.codebook_size) * config.frame_rate
    return min(config.num_quantizers, max(1, math.floor(bandwidth * 1000 / bits)))


def window(layers: nn.Module, run: Callable[[Tensor], Tensor], is_causal: bool, pad_mode: str = "constant") -> Window:
    """A Window of the frames that a run over convolutional `layers`, in order, may depend on.

    All strided convolutions make the unit (inputs a frame), all transposed ones the scale (outputs a frame).
    Where `pad_mode` is "reflect", what comes first depends on as much as a convolution mirrors.
    """
    convolutions = [each for each in layers.modules() if isinstance(each, nn.Conv1d | nn.ConvTranspose1d)]
    strides = [(isinstance(each, nn.Conv1d), each.stride[0]) for each in convolutions]
    unit = math.prod(stride for is_down, stride in strides if is_down)
    scale = math.prod(stride for is_down, stride in strides if not is_down)
    rate = Fraction(unit)  # positions a frame, from layer to layer
    left = right = least = Fraction(0)  # frames
    for each in convolutions:
        width, stride = (each.kernel_size[0] - 1) * each.dilation[0], each.stride[0]
        if isinstance(each, nn.ConvTranspose1d):
            reach = Fraction(math.ceil(each.kernel_size[0] / stride) - 1)
            left, right, rate = left + reach / rate, right + reach / rate, rate * stride
        else:
            side = width if is_causal else math.ceil(width / 2)
            left, right = left + side / rate, right + side / rate
            least, rate = max(least, (width + 1) / rate), rate / stride
    ahead = 0 if is_causal else math.ceil(right)
    mirrored = max(1, math.ceil(least)) if pad_mode == "reflect" else 1
    return Window(run, math.ceil(left), ahead, unit=unit, scale=scale, least=mirrored)


def _mimi_parts(model: Any, half: str, between: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A half's convolutions, transformer and change of rate, where this version of transformers keeps them."""
    owner = getattr(model, half)
    if hasattr(owner, f"{half}_seanet"):
        parts = [getattr(owner, name) for name in (f"{half}_seanet", f"{half}_transformer", between)]
    else:
        parts = [owner, *(getattr(model, name) for name in (f"{half}_transformer", between))]
    return parts[0], parts[1], parts[2]


def _codebooks(most: int, wanted: Any) -> int:
    if wanted is None:
        return most
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= most:
        raise DataError(f"codebooks {wanted} is not a whole number from 1 to {most}")
    return wanted


def _joined(stages: Stages, pieces: Iterable[Tensor]) -> Tensor:
    """Everything that the pieces settle, along the last axis."""
    settled = [*(stages(piece) for piece in pieces), stages(None)]
    return torch.cat([each for each in settled if each is not None], dim=-1)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without transformers' bar for the loading of tensors: a codec takes a second."""
    from transformers.utils import logging

    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
