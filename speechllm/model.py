"""The whole model under Hugging Face's conventions: what is trained here, standing on two pinned bases.

A saved folder holds config.json and the trained tensors alone (adapters, first pass, residual); the bases
are fetched by name, from the source on which the model was trained. `hearing` names the ear: "reading" (`hearing.py`)
gives the LLM what readers read, "frames" (`frames.py`) an encoder's frames, projected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from speechllm import fields, frames, weights
from speechllm.bridge import ReadingBridge
from speechllm.conversation import Conversation, Filled, fill, render
from speechllm.decode import Effort, decode
from speechllm.encoders.conformer import ConformerConfig
from speechllm.errors import DataError, WeightsError
from speechllm.formats import tensors
from speechllm.hearing import BEAMS, Ear, Heard
from speechllm.language.adapters import add_lora, merge_lora
from speechllm.language.base import Language
from speechllm.language.vocabulary import Vocabulary
from speechllm.precision import fast_dtype
from speechllm.readers.attention import LORA_TARGETS, Spelling, WhisperModel
from speechllm.readers.first_pass import FirstPass

TENSORS = "model.safetensors"
OWN = ("first_pass.", "conformer.", "bridge.")  # parts that learn as a whole; of the bases only adapters do


class SpeechLLMConfig(PretrainedConfig):
    """Which bases a model stands on and how large its own parts are.

    Args:
        hearing: "reading" or "frames"; the reader's fields and `first_pass` are of the one, `frames` of the other.
        reader_base, reader_source: name of the Whisper checkpoint, and "hub", "packages" or None for either.
        language_base, language_source: the same of the LLM.
        reader_rank, reader_alpha, language_rank, language_alpha: of the LoRA adapters; rank 0: none.
        tail_seconds: silence put after each clip.
        beams: texts that the reader's search follows; 1: greedy.
        first_pass: fields of `ConformerConfig`.
        frames: fields of `FramesConfig`.
        checks_readings: whether `transcribe` lets the LLM check the reading, or gives it as it is.
    """

    model_type = "speechllm"

    def __init__(
        self,
        reader_base: str = "whisper-base",
        reader_source: str | None = None,
        reader_rank: int = 32,
        reader_alpha: int = 64,
        language_base: str = "gemma-3-270m",
        language_source: str | None = None,
        language_rank: int = 32,
        language_alpha: int = 64,
        tail_seconds: float = 0.5,
        beams: int = BEAMS,
        first_pass: dict[str, Any] | None = None,
        checks_readings: bool = True,
        hearing: str = "reading",
        frames: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.hearing, self.frames = hearing, frames or {}
        self.reader_base, self.reader_source = reader_base, reader_source
        self.reader_rank, self.reader_alpha = reader_rank, reader_alpha
        self.language_base, self.language_source = language_base, language_source
        self.language_rank, self.language_alpha = language_rank, language_alpha
        self.tail_seconds, self.beams = tail_seconds, beams
        self.first_pass = first_pass or {"input_size": 512}
        self.checks_readings = checks_readings
        super().__init__(**kwargs)


LEAST = {"beams": 1}  # of a config's numbers; 0 is the least of the others


def read_config(folder: Path) -> SpeechLLMConfig:
    """The config of a saved model, every field held against its type.

    Raises:
        WeightsError: in one line, what is wrong with config.json.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or content.get("model_type") != SpeechLLMConfig.model_type:
        raise WeightsError(f"{path} is of no speechllm model: it must be a mapping with model_type speechllm")
    hints = fields.hints_of(SpeechLLMConfig.__init__)
    own = {name: value for name, value in content.items() if name in hints}
    said = fields.wrong(SpeechLLMConfig.__init__, own)
    low = [name for name, value in own.items() if isinstance(value, (int, float)) and value < LEAST.get(name, 0)]
    if said or low:
        raise WeightsError(f"{path}: {said or f'{low[0]} must be at least {LEAST.get(low[0], 0)}, not {own[low[0]]}'}")
    try:
        config = SpeechLLMConfig.from_dict(content)
        _check_parts(config)
    except Exception as error:  # of transformers' own fields, whose checks raise errors of many kinds
        raise WeightsError(f"{path}: {' '.join(str(error).split())}") from error
    return config


def _check_parts(config: SpeechLLMConfig) -> None:
    """Raises what a part's sizes raise; they are tried before any base is fetched."""
    if config.hearing not in HEARING:
        raise DataError(f"hearing is {' or '.join(map(repr, HEARING))}, not {config.hearing!r}")
    parts: list[tuple[type, dict[str, Any]]] = [(ConformerConfig, config.first_pass)]
    if config.hearing == "frames":
        parts = [(frames.FramesConfig, config.frames), (ConformerConfig, config.frames.get("conformer") or {})]
    for kind, given in parts:
        if said := fields.wrong(kind, given):
            raise DataError(f"{kind.__name__}: {said}")
        low = [name for name, value in given.items() if isinstance(value, (int, float)) and value < 0]
        if low:
            raise DataError(f"{kind.__name__}: {low[0]} must be at least 0, not {given[low[0]]}")
    if config.hearing == "frames":
        frames.FramesConfig(**config.frames)
    else:
        ConformerConfig(**config.first_pass)


Parts = dict[str, nn.Module]


def _reading(config: SpeechLLMConfig, size: int, vocabulary: Vocabulary, dtype: torch.dtype) -> tuple[Parts, Ear]:
    """Encoder, both readers and the residual, for an LLM of width `size`."""
    folder = weights.get(config.reader_base, config.reader_source)
    conformer = ConformerConfig(**config.first_pass)
    whisper, first_pass = WhisperModel.from_pretrained(folder, dtype), FirstPass(conformer).to(dtype)
    if config.reader_rank:
        add_lora(whisper, LORA_TARGETS, config.reader_rank, config.reader_alpha)
    ear = Ear(whisper, first_pass, Spelling(folder), vocabulary, config.tail_seconds, beams=config.beams)
    return {"whisper": whisper, "first_pass": first_pass, "bridge": ReadingBridge(conformer.size, size)}, ear


def _frames(config: SpeechLLMConfig, size: int, _: Vocabulary, dtype: torch.dtype) -> tuple[Parts, frames.FramesEar]:
    """Encoder and stacking bridge, for an LLM of width `size`."""
    return frames.build(frames.FramesConfig(**config.frames), size, dtype)


HEARING: dict[str, Callable[..., tuple[Parts, Any]]] = {"reading": _reading, "frames": _frames}


class SpeechLLM(PreTrainedModel):
    """An ear (what hears a clip), a bridge and a decoder-only LLM.

    Limits: one clip is at most 28 seconds here; `Assistant` cuts longer recordings at pauses.
    """

    config_class = SpeechLLMConfig
    base_model_prefix = ""
    bridge: Any  # its parts, as `hearing` has them; when reading, also:
    whisper: Any
    first_pass: Any
    folder: Path | None = None  # from which it was loaded

    def __init__(
        self, config: SpeechLLMConfig, parts: Parts, ear: Any, language: Language, vocabulary: Vocabulary
    ) -> None:
        """`parts` are the ear's modules and its bridge, by name; `ear.hear(clip, languages)` uses them."""
        super().__init__(config)
        self.language, self.vocabulary, self.ear = language, vocabulary, ear
        for name, part in parts.items():
            self.add_module(name, part)
        if config.language_rank:
            language.add_lora(config.language_rank, config.language_alpha)

    @classmethod
    def on_bases(cls, config: SpeechLLMConfig, dtype: torch.dtype = torch.float32) -> SpeechLLM:
        """An untrained model on its bases: adapters that change nothing, its own parts drawn at random.

        Raises:
            WeightsError: a base cannot be had, or `hearing` names no ear.
        """
        if config.hearing not in HEARING:
            raise WeightsError(f"hearing is {' or '.join(map(repr, HEARING))}, not {config.hearing!r}")
        base = weights.get(config.language_base, config.language_source)
        language, vocabulary = Language.from_pretrained(base, dtype), Vocabulary(base)
        parts, ear = HEARING[config.hearing](config, language.size, vocabulary, dtype)
        return cls(config, parts, ear, language, vocabulary).eval()

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: str = "cpu",  # type: ignore[override]
        merge: bool = False,
        **_: Any,
    ) -> SpeechLLM:
        """Load a folder, a name or a hub id.

        Args:
            dtype: of the bases; None: what this processor multiplies fastest.
            merge: add the adapters into the weights; faster, and the base's own logits are gone.
        Raises:
            WeightsError: the folder is no speechllm model, or a tensor of it is missing. What lies in the folder is
                read before any base is fetched.
        """
        path = weights.get(str(folder))
        if not (path / "config.json").is_file() or not (path / TENSORS).is_file():
            raise WeightsError(f"{path} holds no speechllm model: config.json and {TENSORS} are wanted")
        config, found = read_config(path), tensors.load(path / TENSORS)
        dtype = dtype or fast_dtype(device)
        model = cls.on_bases(config, dtype)
        model.load_trained(found)
        model.folder = path
        model.to(device)  # type: ignore[arg-type]  (the wrapper of transformers hides what it takes)
        if merge:
            merge_lora(model)
        return model.eval().requires_grad_(False)

    def pack(self) -> None:
        """Let the reader's steps and the LLM's head read their weights in 8 bits, for merged adapters on a processor.

        The reader's texts may change where two tokens are nearly as likely; the LLM's answers stay.
        """
        self.ear.pack()
        self.language.pack()

    def save_pretrained(self, folder: str | Path, *, bits: int = 16, **_: Any) -> None:  # type: ignore[override]
        """Write config.json and the trained tensors, in fp16 or, matrices by row, in 8 bits."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(folder)
        tensors.save(self._trained(), folder / TENSORS, bits)

    def _trained(self) -> dict[str, Tensor]:
        """Parameters that belong to this model and not to its bases."""
        return {name: p for name, p in self.named_parameters() if "lora_" in name or name.startswith(OWN)}

    def load_trained(self, trained: dict[str, Tensor]) -> None:
        """Take trained tensors by name; raises WeightsError when one is missing or has another shape."""
        for name, parameter in self._trained().items():
            found = trained.get(name)
            if found is None or found.shape != parameter.shape:
                raise WeightsError(
                    f"the model's tensor {name} is missing or of another shape; is its config.json its own?"
                )
            parameter.data.copy_(found)

    def fill(self, conversation: Conversation, heard: Sequence[Heard]) -> Filled:
        """The ids of a conversation about what was heard."""
        return fill(render(conversation, self.vocabulary.form, self.vocabulary), [each.ids for each in heard])

    def embed(self, filled: Filled, heard: Sequence[Heard]) -> Tensor:
        """Embeddings (N, H) of a filled conversation: as heard, or of the reading with the residual of its frames."""
        embeddings = self.language.embed(torch.tensor(filled.ids, device=self.language.device))
        for index, start, end in filled.places:
            known = heard[index]
            if known.embeddings is not None:
                embeddings[start:end] = known.embeddings
            elif known.pooled is not None:
                embeddings[start:end] = self.bridge(embeddings[start:end].clone(), known.pooled)
        return embeddings

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Tensor:  # type: ignore[override]
        """Logits (B, N, V) of plain ids (B, N) without audio: those of the base model, bit for bit (adapters off)."""
        with self.language.without_lora():
            return self.language.model(input_ids=input_ids, attention_mask=attention_mask).logits

    @torch.inference_mode()
    def answer(
        self,
        conversation: Conversation,
        heard: Sequence[Heard],
        limit: int,
        draft: Sequence[int] = (),
        effort: Effort | None = None,
    ) -> Iterator[int]:
        """Token ids of the greedy answer, as they come."""
        prompt = self.embed(self.fill(conversation, heard), heard)
        for _, token in decode(self.language, [prompt], self.stops, [limit], draft, effort=effort):
            yield token

    @torch.inference_mode()
    def generate(  # type: ignore[override]
        self,
        conversations: Sequence[Conversation],
        heard: Sequence[Sequence[Heard]],
        max_new_tokens: int = 256,
        padding: str = "left",
    ) -> list[list[int]]:
        """Greedy answers of several conversations in one padded batch; ids without the end."""
        prompts = [self.embed(self.fill(c, h), h) for c, h in zip(conversations, heard, strict=True)]
        answers: list[list[int]] = [[] for _ in prompts]
        for row, token in decode(self.language, prompts, self.stops, [max_new_tokens] * len(prompts), padding=padding):
            answers[row].append(token)
        return answers

    @property
    def stops(self) -> frozenset[int]:
        """Ids that end an answer."""
        ends = {self.vocabulary.form.end[0]}
        ends |= {found for name in ("<eos>", "<|endoftext|>") if (found := self.vocabulary.id(name)) is not None}
        return frozenset(ends)


AutoConfig.register("speechllm", SpeechLLMConfig)
AutoModel.register(SpeechLLMConfig, SpeechLLM)
