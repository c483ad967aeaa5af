"""The stages of a run in their order: each takes what the one before left in the folder, and may be killed."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from speechllm import int8, weights
from speechllm.audio.decode import load
from speechllm.bridge import ReadingBridge
from speechllm.conversation import Filled
from speechllm.data import cache, mixture, spoken
from speechllm.data.recordings import train_rows, unreserved
from speechllm.encoders.conformer import ConformerConfig
from speechllm.encoders.ctc import ALPHABET
from speechllm.errors import DataError
from speechllm.hearing import Ear
from speechllm.language.adapters import add_lora, merge_lora
from speechllm.language.base import Language
from speechllm.language.rows import used_rows
from speechllm.language.vocabulary import Vocabulary
from speechllm.precision import fast_dtype
from speechllm.readers.attention import LORA_TARGETS, Spelling, WhisperModel
from speechllm.readers.first_pass import FirstPass
from speechllm.training import checkpoint, ctc, frames, language, reader
from speechllm.training.codec import CodecRun
from speechllm.training.loop import Schedule, fit, load_trained, make_accelerator

if TYPE_CHECKING:
    from speechllm.model import SpeechLLM
from speechllm.training.recipe import AnyRecipe, CodecRecipe, FramesRecipe, Recipe, VoiceRecipe
from speechllm.training.voice import VoiceRun


def begin(recipe: AnyRecipe, folder: Path) -> RunFolder | CodecRun | VoiceRun:
    """The run of a recipe in a folder, begun or to go on."""
    if isinstance(recipe, CodecRecipe):
        return CodecRun(recipe.codec, folder)
    if isinstance(recipe, VoiceRecipe):
        return VoiceRun(recipe.voices, recipe.speak, recipe.acoustic, folder, recipe.pronounce, recipe.align)
    return FramesRun(recipe, folder) if isinstance(recipe, FramesRecipe) else Run(recipe, folder)


class RunFolder(ABC):
    """What every run has: its folder, the device, an LLM on which it stands, checkpoints by stage."""

    def __init__(self, folder: Path, base: str, source: str | None) -> None:
        self.folder, self.base, self.source = folder, base, source
        self.accelerator = make_accelerator()
        self.dtype = fast_dtype(self.accelerator.device.type)
        self.caches = folder / "cache"

    @abstractmethod
    def train(self) -> Path:
        """All stages; gives the folder of the finished model."""

    @cached_property
    def language_folder(self) -> Path:
        """The LLM's base, from its pinned source."""
        return weights.get(self.base, self.source)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.language_folder)

    def _save(self, model: SpeechLLM) -> Path:
        """Write the finished model, from one process."""
        if self.accelerator.is_main_process:
            model.save_pretrained(self.folder / "model", bits=8)
        self.accelerator.wait_for_everyone()
        return self.folder / "model"

    def _done(self, stage: str, schedule: Schedule) -> bool:
        found = checkpoint.newest_step(self.folder / stage)
        return found is not None and found >= schedule.steps

    def _restore(self, stage: str, module: torch.nn.Module) -> None:
        found = checkpoint.newest(self.folder / stage)
        assert found is not None, f"stage {stage} has no checkpoint"
        load_trained(module, found[1]["module"])


class Run(RunFolder):
    """The run of a model that reads: reader, then first pass, then LLM."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__(folder, recipe.language.base, recipe.language.source)
        self.recipe = recipe

    def train(self) -> Path:
        """All stages; gives the folder of the finished model."""
        self._train_reader()
        self._train_ctc()
        self._train_language()
        return self.export()

    @cached_property
    def whisper_folder(self) -> Path:
        """The reader's base, from its pinned source."""
        return weights.get(self.recipe.reader.base, self.recipe.reader.source)

    @cached_property
    def spelling(self) -> Spelling:
        return Spelling(self.whisper_folder)

    @cached_property
    def recordings(self) -> list[dict]:
        """Rows of real clips, their texts in the reader's style."""
        options, path = self.recipe.reader, self.folder / "recordings.json"
        if path.exists():
            return json.loads(path.read_text("utf-8"))
        rows = train_rows(options.corpora)
        untuned = WhisperModel.from_pretrained(self.whisper_folder, self.dtype)
        chosen = [i for i, row in enumerate(rows) if row["corpus"] in options.restyle]
        mels = reader.mel_cache(self.caches, rows, options.tail_seconds)
        labels = reader.restyle(
            [rows[i] for i in chosen], [mels[i] for i in chosen], untuned, self.spelling, self.caches
        )
        for i, label in zip(chosen, labels, strict=False):
            rows[i]["text"] = label
        rows = unreserved(rows)
        text = json.dumps(rows, ensure_ascii=False)
        cache.write_whole(path, lambda beside: beside.write_text(text, "utf-8"))
        return rows

    @cached_property
    def mels(self) -> cache.Cache:
        return reader.mel_cache(self.caches, self.recordings, self.recipe.reader.tail_seconds)

    def _train_reader(self) -> None:
        options = self.recipe.reader
        if not self._done("reader", options.schedule):
            model = self._adapted_whisper()
            fit(
                reader.ReaderObjective(model, self.spelling, self.recordings, self.mels, options),
                options.schedule,
                self.folder / "reader",
                self.accelerator,
            )

    def _adapted_whisper(self) -> WhisperModel:
        model = WhisperModel.from_pretrained(self.whisper_folder, self.dtype)
        options = self.recipe.reader
        add_lora(model, LORA_TARGETS, options.rank, options.alpha, options.dropout)
        return model

    @cached_property
    def whisper(self) -> WhisperModel:
        """The tuned reader, its adapters merged."""
        model = self._adapted_whisper()
        self._restore("reader", model)
        merge_lora(model)
        return model.to(self.accelerator.device).requires_grad_(False).eval()

    @cached_property
    def first_pass_config(self) -> ConformerConfig:
        options = self.recipe.ctc
        return ConformerConfig(
            input_size=self.whisper.config.size, size=options.size, layers=options.layers, dropout=options.dropout
        )

    def _train_ctc(self) -> None:
        options = self.recipe.ctc
        if self._done("ctc", options.schedule):
            return
        spoken = [i for i, row in enumerate(self.recordings) if row["text"]]
        rows = [self.recordings[i] for i in spoken]
        key = cache.digest(self.recipe.reader, self.recordings)
        hidden = ctc.hidden_cache(self.caches, key, [self.mels[i] for i in spoken], self.whisper, rows)
        torch.manual_seed(options.schedule.seed)
        labels = [ALPHABET.encode(row["text"]) for row in rows]
        objective = ctc.CTCObjective(FirstPass(self.first_pass_config), labels, hidden, options)
        fit(objective, options.schedule, self.folder / "ctc", self.accelerator)

    @cached_property
    def first_pass(self) -> FirstPass:
        """The trained first pass."""
        model = FirstPass(self.first_pass_config)
        self._restore("ctc", model)
        return model.to(self.accelerator.device, self.dtype).requires_grad_(False).eval()

    def readings(self, rows: list[dict]) -> cache.Cache:
        """What the tuned model hears of each row's clip: its text, and the frames under each of the LLM's pieces."""
        options = self.recipe
        ear = Ear(self.whisper, self.first_pass, self.spelling, self.vocabulary, options.reader.tail_seconds)
        if self.accelerator.device.type == "cpu" and int8.is_available():
            ear.pack()  # as `Assistant` reads, and three times as fast

        def compute(part: list[dict]) -> list[dict[str, Tensor]]:
            out = []
            for row in part:
                heard = ear.hear(load(row["audio"]), (row["lang"],))
                assert heard.pooled is not None
                text = torch.tensor(list(heard.reading.text.encode()), dtype=torch.uint8)
                out.append({"text": text, "pooled": heard.pooled.half()})
            return out

        plain = [{"audio": row["audio"], "lang": row["lang"]} for row in rows]
        return cache.build(
            self.caches, "readings-" + cache.digest(options.reader, options.ctc, plain), plain, compute, "readings"
        )

    @cached_property
    def rows(self) -> Tensor:
        """The LLM's output rows that its loss compares, found once for a run."""
        path = self.folder / "rows.pt"
        if not path.exists():
            cache.write_whole(path, partial(torch.save, used_rows(self.vocabulary)))
        return torch.load(path, weights_only=True)

    def _train_language(self) -> None:
        options = self.recipe.language
        if self._done("language", options.schedule):
            return
        rows, pooled = self._mixture()
        model = Language.from_pretrained(self.language_folder, self.dtype)
        model.use_rows(self.rows)
        model.add_lora(options.rank, options.alpha, options.dropout)
        adapted = language.Adapted(model, ReadingBridge(self.first_pass_config.size, model.size))
        fit(
            language.LanguageObjective(adapted, rows, pooled.get, options),
            options.schedule,
            self.folder / "language",
            self.accelerator,
        )

    def _mixture(self) -> tuple[list[Filled], dict[int, Tensor]]:
        """Written rows of text, and by row number the frames of those whose recording was read by the tuned model."""
        options = self.recipe.language
        spec = mixture.MixtureSpec(options.rows, options.seed, phone_share=options.phone_share, audio=True)
        rows = list(mixture.build(replace(spec, shares=options.shares) if options.shares else spec))
        recorded = sorted({(row["audio"], row["lang"]) for row in rows if "audio" in row}, key=cache.digest)
        recorded = recorded[: options.recordings]
        heard = self.readings([{"audio": audio, "lang": lang} for audio, lang in recorded])
        places = {audio: place for place, (audio, _) in enumerate(recorded)}
        written: list[Filled] = []
        pooled: dict[int, Tensor] = {}
        for row in rows:
            found = heard[places[row["audio"]]] if row.get("audio") in places else None
            text = row["text"] if found is None else bytes(found["text"].tolist()).decode()
            filled = language.write({**row, "text": text}, self.vocabulary)
            if text and len(filled.ids) <= options.longest:
                if found is not None and options.learns_residual:
                    pooled[len(written)] = found["pooled"].float()
                written.append(filled)
        return written, pooled

    def export(self) -> Path:
        """Put the trained parts together as a model folder."""
        from speechllm.model import SpeechLLM, SpeechLLMConfig

        options = self.recipe
        config = SpeechLLMConfig(
            reader_base=options.reader.base,
            reader_source=options.reader.source,
            reader_rank=options.reader.rank,
            reader_alpha=options.reader.alpha,
            language_base=options.language.base,
            language_source=options.language.source,
            language_rank=options.language.rank,
            language_alpha=options.language.alpha,
            tail_seconds=options.reader.tail_seconds,
            first_pass=vars(self.first_pass_config) | {"dropout": 0.0},
            checks_readings=self.recipe.language.checks_readings,
        )
        model = SpeechLLM.on_bases(config)
        self._restore("reader", model.whisper)
        self._restore("ctc", model.first_pass)
        self._restore("language", language.Adapted(model.language, model.bridge))
        return self._save(model)


class FramesRun(RunFolder):
    """The run of a model that listens to frames: one stage."""

    def __init__(self, recipe: FramesRecipe, folder: Path) -> None:
        super().__init__(folder, recipe.frames.base, recipe.frames.source)
        self.recipe = recipe

    def train(self) -> Path:
        """The stage; gives the folder of the finished model."""
        from speechllm.model import SpeechLLM, SpeechLLMConfig

        options = self.recipe.frames
        torch.manual_seed(options.schedule.seed)
        config = SpeechLLMConfig(
            hearing="frames",
            frames=asdict(options.config()),
            language_base=options.base,
            language_source=options.source,
            language_rank=options.rank,
            language_alpha=options.alpha,
        )
        model = SpeechLLM.on_bases(config, self.dtype).to(self.accelerator.device)
        encoder = model.ear.encoder
        conformer = None if options.encoder else encoder.float()
        listening = frames.Listening(conformer, model.ear.bridge, model.language)
        if not self._done("frames", options.schedule):
            paths = sorted({row["audio"] for row in self.recordings})
            cached = frames.frames_cache(self.caches, self._encoder_key(), paths, encoder)
            objective = frames.FramesObjective(listening, self._written(listening, paths, cached), cached, options)
            fit(objective, options.schedule, self.folder / "frames", self.accelerator)
        self._restore("frames", listening)
        return self._save(model)

    @cached_property
    def recordings(self) -> list[dict]:
        """A row for each recording and each task that it teaches."""
        options = self.recipe.frames
        return spoken.rows(options.corpora, options.tasks, options.seed)

    def _encoder_key(self) -> str:
        """What made the cached frames."""
        options = self.recipe.frames
        if not options.encoder:
            return "log-mel"
        return cache.digest(options.encoder, weights.provenance(weights.get(options.encoder, options.encoder_source)))

    def _written(self, listening: frames.Listening, paths: list[str], cached: cache.Cache) -> list[tuple[Filled, int]]:
        """Written rows that are short enough, each with the place of its recording."""
        places = {path: place for place, path in enumerate(paths)}
        positions = [listening.positions(len(cached[place]["frames"])) for place in range(len(paths))]
        written = []
        for row in self.recordings:
            place = places[row["audio"]]
            filled = frames.write(row, positions[place], self.vocabulary)
            if len(filled.ids) <= self.recipe.frames.longest:
                written.append((filled, place))
        if not written:
            raise DataError(f"no row has at most {self.recipe.frames.longest} positions; raise `longest` in the recipe")
        return written
