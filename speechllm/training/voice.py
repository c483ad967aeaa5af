"""The run that teaches a trained model to speak: codes of recordings, then its stages.

`pronounce` and `align` where the recipe has them, `speak`, and `acoustic`.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechllm import pitch, voice, weights
from speechllm.acoustic import Acoustic, AcousticConfig
from speechllm.audio.decode import load
from speechllm.audio.segments import SpeechDetector
from speechllm.codecs import pocket
from speechllm.data import cache, reserved
from speechllm.data.instruction_checks import plain
from speechllm.data.recordings import train_rows
from speechllm.data.voiced import voiced
from speechllm.errors import DataError
from speechllm.language.speech import SpeechTokens
from speechllm.letter_times import LetterTimes, Spelled
from speechllm.packages import sha256
from speechllm.training import adversarial, checkpoint
from speechllm.training.acoustic import AcousticLearner, AcousticOptions, Rows, padded
from speechllm.training.alignment import AlignOptions, frames_cache, listener, spelling
from speechllm.training.codec import sound_cache
from speechllm.training.ctc import CTCObjective
from speechllm.training.loop import fit, load_trained, make_accelerator
from speechllm.training.pronunciation import PronounceObjective, PronounceOptions, Texts, errors
from speechllm.training.said_over import said_over
from speechllm.training.speaking import Speaking, SpeakObjective, SpeakOptions
from speechllm.voice import VoiceConfig
from speechllm.voice_prompt import VoicePrompt, listen
from speechllm.woven import letters

if TYPE_CHECKING:
    from speechllm.codecs.pocket import PocketCodec
    from speechllm.model import SpeechLLM
    from speechllm.readers.first_pass import FirstPass

ALIGN, ACOUSTIC, SPEAK, PRONOUNCE = "align", "acoustic", "speak", "pronounce"  # folders of the stages
VOICE = "voice"  # that of a model's voice


@dataclass(frozen=True)
class VoicesOptions:
    """What stands still, and which recordings are too long."""

    base: str = "pocket"  # the model that learns to speak: its encoder aligns, its LLM gets an adapter
    codec: str = "pocket-codec"  # name or folder
    longest: float = 16.0  # seconds of a recording
    tells_codes: bool = True  # in speaking: see `voice.VoiceConfig`
    defaults: dict[str, str] = field(default_factory=dict)  # the corpus whose voice speaks a language (ISO 639-1)


class VoiceRun:
    """The run in its folder."""

    def __init__(
        self,
        voices: VoicesOptions,
        speak: SpeakOptions,
        acoustic: AcousticOptions,
        folder: Path,
        pronounce: PronounceOptions | None = None,
        align: AlignOptions | None = None,
    ) -> None:
        self.voices, self.speak, self.acoustic, self.folder = voices, speak, acoustic, folder
        self.pronounce, self.align = pronounce, align
        self.accelerator = make_accelerator()

    def train(self) -> Path:
        """All stages, each from its newest checkpoint."""
        self.train_pronounce()
        self.train_align()
        self.train_speak()
        self.train_acoustic()
        return self.export()

    def rows(self, corpus: str) -> list[dict]:
        """Rows of a corpus that have words, are not too long, and say nothing that is evaluated."""
        kept_out = reserved.texts()
        return [
            row
            for row in train_rows([corpus])
            if row["seconds"] <= self.voices.longest and letters(row["text"]) and plain(row["text"]) not in kept_out
        ]

    def voiced(self, corpora: Sequence[str]) -> tuple[list[dict], cache.Chosen]:
        """Rows of corpora, and of each its codes and its letters' frames, kept by corpus."""
        rows, parts = list[dict](), list[cache.Cache]()
        for corpus in corpora:
            these, codes = self._voiced(corpus)
            rows += these
            parts.append(codes)
        return _spelled_out(rows, parts)

    def _voiced(self, corpus: str) -> tuple[list[dict], cache.Cache]:
        rows, key, frames = self.rows(corpus), self._key, None
        if self._is_timed_anew(corpus):
            learned = (self.align, self.pronounce)
            key, frames = cache.digest(key, *(asdict(each) for each in learned if each)), self._frames(rows)
        ear, times = self.model.ear, self._times(corpus)
        return rows, voiced(self.folder / "cache", key, rows, self.codec, ear, times, frames)

    def _frames(self, rows: list[dict]) -> cache.Cache:
        return frames_cache(self.folder / "cache", self._key, rows, self.model.ear)

    def _is_timed_anew(self, corpus: str) -> bool:
        return self.align is not None and corpus in self.align.corpora

    def _times(self, corpus: str) -> LetterTimes:
        """What finds the letters of a corpus."""
        return self._learned_times if self._is_timed_anew(corpus) else LetterTimes(self.model.ear.first_pass)

    @cached_property
    def _spell(self) -> Callable[[str, str | None], Spelled]:
        """Letters to phonemes, as stage `pronounce` has learned."""
        learner = self._acoustic()
        if learner.pronouncer is None:
            raise DataError("stage align hears phonemes: give the recipe a stage pronounce")
        load_trained(learner.pronouncer, self._newest(PRONOUNCE)["module"])
        return spelling(learner.acoustic.eval())

    @cached_property
    def _learned_times(self) -> LetterTimes:
        """The first pass of stage `align`, and what it hears."""
        first_pass = self._first_pass()
        load_trained(first_pass, self._newest(ALIGN)["module"])
        return LetterTimes(first_pass.to(next(self.model.ear.first_pass.parameters()).dtype).eval(), self._spell)

    def _first_pass(self) -> FirstPass:
        torch.manual_seed(self.align.seed if self.align else 0)
        return listener(self.model.ear.first_pass, len(self._texts.signs) if self._texts else 0)

    def train_align(self) -> None:
        """A first pass that times the letters of some corpora, where the recipe has them."""
        if self.align is None:
            return
        rows, parts = list[dict](), list[cache.Cache]()
        for corpus in self.align.corpora:
            these = self.rows(corpus)
            rows += these
            parts.append(self._frames(these))
        rows, frames = _spelled_out(rows, parts)
        heard = [[label for part in self._spell(letters(row["text"]), row["lang"]) for label in part] for row in rows]
        objective = CTCObjective(self._first_pass(), heard, frames, self.align.ctc)
        fit(objective, self.align.schedule, self.folder / ALIGN, self.accelerator)

    @cached_property
    def _key(self) -> str:
        """Names what makes codes and letters."""
        made_by = [weights.get(name) / "model.safetensors" for name in (self.voices.base, self.voices.codec)]
        return cache.digest(*map(sha256, made_by))

    def _said(self, corpus: str) -> cache.Cache | cache.Empty:
        """A corpus whose voice is the model's own, as the trained LLM says it over; of others nothing."""
        rows, codes = self._voiced(corpus)
        if corpus not in self.voices.defaults.values():
            return cache.Empty(len(rows))
        key = cache.digest(self._key, asdict(self.speak))
        with self.accelerator.autocast():
            return said_over(self.folder / "cache", key, rows, codes, self._speaking.eval(), self.model.vocabulary)

    @cached_property
    def model(self) -> SpeechLLM:
        """The base, its adapters merged."""
        from speechllm.model import SpeechLLM

        return SpeechLLM.from_pretrained(self.voices.base, merge=True).to(self.accelerator.device)

    @cached_property
    def codec(self) -> PocketCodec:
        return pocket.load(weights.get(self.voices.codec), "cpu")

    def train_acoustic(self) -> None:
        """The latents from the first codebook, and the codec's decoder; once the LLM has learned to speak."""
        options, learner = self.acoustic, self._acoustic()
        if learner.pronouncer is not None:
            load_trained(learner.pronouncer, self._newest(PRONOUNCE)["module"])
        load_trained(self._speaking, self._newest(SPEAK)["module"])
        rows, found = self.voiced(options.corpora)
        hop, size = self.codec.hop_length, self.codec.codebook_size
        sounds = cache.Chosen([self._sounds(each) for each in options.corpora], found.rows)
        said = cache.Chosen([self._said(each) for each in options.corpora], found.rows)
        heights = cache.Chosen([self._heights(each) for each in options.corpora], found.rows)
        voiced = _Sounding(found, sounds, heights, said, hop)
        every = max(1, len(rows) // 200)
        learner.measure(torch.cat([voiced[i]["codes"].long() for i in range(0, len(rows), every)], 1)[None])
        batches = Rows(rows, voiced, options, hop, size, self._texts)
        adversarial.fit(batches, learner, self.codec.sample_rate, options, self.folder / ACOUSTIC, self.accelerator)

    def _sounds(self, corpus: str) -> cache.Cache:
        return sound_cache(self.folder / "cache", self.rows(corpus))

    def _heights(self, corpus: str) -> cache.Cache:
        """The pitch of a corpus's frames."""
        sounds, hop, rate = self._sounds(corpus), self.codec.hop_length, self.codec.sample_rate

        def compute(part: list[dict]) -> list[dict[str, Tensor]]:
            return [{"heights": pitch.heights(sounds[row["row"]]["samples"], rate, hop).half()} for row in part]

        rows = [{"audio": row["audio"], "row": number} for number, row in enumerate(self.rows(corpus))]
        return cache.build(self.folder / "cache", f"pitch-{cache.digest(hop, rate, rows)}", rows, compute, "pitch")

    def _acoustic(self) -> AcousticLearner:
        options, codec = self.acoustic, self.codec
        config = AcousticConfig(
            codebook_size=codec.codebook_size, latents=codec.config.size, frame_rate=codec.frame_rate,
            size=options.size, layers=options.layers, signs=len(self._texts.signs) if self._texts else 0,
            marks=self._texts.marks if self._texts else (),
        )  # fmt: skip
        torch.manual_seed(options.schedule.seed)
        return AcousticLearner(Acoustic(config), copy.deepcopy(codec.model), options.crop_frames)

    @cached_property
    def _texts(self) -> Texts | None:
        return Texts(self.pronounce) if self.pronounce else None

    def train_pronounce(self) -> None:
        """The acoustic model's text encoder, where the recipe has texts with phonemes."""
        learner = self._acoustic().pronouncer
        if learner is not None and self._texts is not None:
            objective = PronounceObjective(learner, self._texts)
            fit(objective, self._texts.options.schedule, self.folder / PRONOUNCE, self.accelerator)
            shares = errors(learner, self._texts)
            said = ", ".join(f"{lang} {share:.1f} %" for lang, share in shares.items())
            self.accelerator.print(f"phonemes misread: {said}", flush=True)

    def train_speak(self) -> None:
        """The first codebook, by the LLM."""
        options = self.speak
        torch.manual_seed(options.schedule.seed)
        module = self._speaking
        if options.compile:
            module.language.compile_layers()
        objective = SpeakObjective(module, *self.voiced(options.corpora), self.model.vocabulary, options)
        fit(objective, options.schedule, self.folder / SPEAK, self.accelerator)

    @cached_property
    def _speaking(self) -> Speaking:
        """What learns in the first stage; the model's LLM gets its adapter but once."""
        options = self.speak
        language = voice.beside(self.model.language, options.layers)
        codes = self.codec.codebook_size
        tokens = SpeechTokens(language.size, codes, options.group)
        tokens.begin(language, self.model.vocabulary)
        language.add_lora(options.rank, options.alpha)
        return Speaking(language, tokens)

    def export(self) -> Path:
        """The base's folder with the voice in it, from the newest checkpoints, and `codec` with the new decoder."""
        learner, speaking = self._acoustic(), self._speaking
        sounded, spoken = (self._newest(stage) for stage in (ACOUSTIC, SPEAK))
        adversarial.load_module(learner, sounded["codec"]["module"])
        load_trained(speaking, spoken["module"])
        options = self.speak
        config = VoiceConfig(
            self.voices.codec, options.group, options.layers, options.rank, options.alpha,
            self.voices.tells_codes, asdict(learner.acoustic.config),
            {lang: Path(corpus).name for lang, corpus in self.voices.defaults.items()},
            tuple(lang for lang, corpus in self.voices.defaults.items() if self._is_timed_anew(corpus)),
        )  # fmt: skip
        parts = {"language": speaking.language.body, "tokens": speaking.tokens, "acoustic": learner.acoustic}
        own = {Path(corpus).name: self.own_voice(corpus) for corpus in self.voices.defaults.values()}
        out = self.folder / "model"
        if self.accelerator.is_main_process:
            shutil.copytree(weights.get(self.voices.base), out, dirs_exist_ok=True)
            voice.save(config, parts, own, out / VOICE)
            codec = copy.deepcopy(self.codec.model)
            codec.decoder.load_state_dict(learner.decoder.state_dict())
            pocket.save_model(codec, self.folder / "codec")
        self.accelerator.wait_for_everyone()
        return out

    def _newest(self, stage: str) -> dict[str, Any]:
        """The state of a stage's newest checkpoint."""
        found = checkpoint.newest(self.folder / stage)
        if found is None:
            raise DataError(f"stage {stage} has no checkpoint yet")
        return found[1]

    def own_voice(self, corpus: str) -> VoicePrompt:
        """The first sentence of a corpus, of three to five seconds, that the model reads as it was written."""
        detector = SpeechDetector(weights.get("silero-vad") / "silero_vad.onnx")
        for row in self.rows(corpus):
            if 3.0 <= row["seconds"] <= 5.0 and row["text"].endswith("."):
                clip = load(row["audio"])
                read = self.model.ear.hear(clip, (row["lang"],)).reading.text
                if letters(read) == letters(row["text"]):
                    ear, times = self.model.ear, self._times(corpus)
                    return listen(clip, ear, self.codec, detector, row["text"], row["lang"], times)
        raise DataError(f"{corpus} has no sentence of three to five seconds that is read as it was written")


def _spelled_out(rows: Sequence[dict], parts: Sequence[cache.Cache]) -> tuple[list[dict], cache.Chosen]:
    """Rows, and what caches hold of them, without those with digits: they were said in letters that are not there."""
    kept = [i for i, row in enumerate(rows) if not _has_digits(row)]
    return [rows[i] for i in kept], cache.Chosen(parts, kept)


def _has_digits(row: dict) -> bool:
    return any(letter.isdigit() for letter in row["text"])


class _Sounding:
    """Rows with codes, spans, samples and pitch, as long as the codes, and the LLM's codes where it said them over."""

    def __init__(
        self, voiced: cache.Chosen, sounds: cache.Chosen, heights: cache.Chosen, said: cache.Chosen, hop: int
    ) -> None:
        self.voiced, self.sounds, self.heights, self.said, self.hop = voiced, sounds, heights, said, hop

    def __len__(self) -> int:
        return len(self.voiced)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        found = self.voiced[row]
        frames = found["codes"].shape[1]
        samples = padded(self.sounds[row]["samples"], frames, self.hop)
        heights = self.heights[row]["heights"]
        heights = F.pad(heights, (0, max(0, frames - len(heights))), value=torch.nan)[:frames]
        said = {name: codes.long() for name, codes in self.said[row].items()}
        return {**found, **said, "samples": samples, "heights": heights}
