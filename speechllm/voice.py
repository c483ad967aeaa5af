"""What makes a model speak: an adapter of its LLM, speech tokens, the acoustic model and a codec, in one folder.

    voice = Voice.load(folder / "voice", model)
    for clip in voice.say(["Good morning.", "How are you?"], "en", seed=1): ...

The LLM says a sentence letter by letter (`speaking.py`), the acoustic model gives what is said so far the sound of a
voice (`acoustic.py`), and what the codec's decoder makes of it leaves as it settles. Before each sentence comes, for
the LLM, the language's own voice, in which it has learned to go on; for the acoustic model, that or a given one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from speechllm import fields, pitch, prompts, weights
from speechllm.acoustic import Acoustic, AcousticConfig
from speechllm.audio.clip import Clip
from speechllm.audio.mark import Marker
from speechllm.codecs.pocket import PocketCodec
from speechllm.codecs.pocket import load as load_codec
from speechllm.conversation import Conversation, render
from speechllm.conversation import fill as fill_in
from speechllm.errors import DataError, TaskError, WeightsError
from speechllm.formats import tensors
from speechllm.language.base import Language
from speechllm.language.speech import SpeechTokens
from speechllm.language.vocabulary import Vocabulary
from speechllm.languages import NAMES
from speechllm.speaking import Piece, Sampling, say
from speechllm.text_encoder import numbers
from speechllm.voice_prompt import WIDEST_STEP, VoicePrompt
from speechllm.woven import labels, letters, spread

if TYPE_CHECKING:
    from speechllm.model import SpeechLLM

TENSORS = "model.safetensors"
FIRST_SECONDS, NEXT_SECONDS = 0.6, 2.0  # of sound that the acoustic model fills in at once, at least
PAST_SECONDS = 2.0  # of what was just said that stand before it
AHEAD_SECONDS = 0.2  # at the end of a chunk that wait for the next one


@dataclass(frozen=True)
class VoiceConfig:
    """Sizes of what speaks, and whose voices are its own."""

    codec: str = "pocket-codec"
    group: int = 2  # frames of a step
    layers: int = 6  # of the LLM, from below
    rank: int = 32
    alpha: int = 64
    tells_codes: bool = True  # to the acoustic model; else it learns from the LLM when each letter is said, no more
    acoustic: dict[str, Any] = field(default_factory=dict)  # fields of `AcousticConfig`
    voices: dict[str, str] = field(default_factory=dict)  # the voice of a language (ISO 639-1), by name
    silent: tuple[str, ...] = ()  # languages whose silent letters take no time


class Voice:
    """A model's voice, loaded."""

    def __init__(
        self,
        config: VoiceConfig,
        language: Language,
        vocabulary: Vocabulary,
        tokens: SpeechTokens,
        acoustic: Acoustic,
        codec: PocketCodec,
        own: dict[str, VoicePrompt],
    ) -> None:
        """language: with the adapter for speech; own: voices by name."""
        self.config, self.language, self.vocabulary = config, language, vocabulary
        self.tokens, self.acoustic, self.codec, self.own = tokens, acoustic, codec, own
        self._begun = dict[str, Filler]()

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that have a voice."""
        return tuple(self.config.voices)

    def check(self, lang: str) -> None:
        """Raise TaskError for a language that has no voice."""
        if lang not in self.languages:
            known = ", ".join(NAMES[code] for code in self.languages)
            raise TaskError(f"this model speaks {known}, not {NAMES.get(lang, lang)}")

    @classmethod
    def load(cls, folder: Path, model: SpeechLLM) -> Voice:
        """The voice in a folder, on the LLM of `model`, whose own tensors stay as they are.

        Raises WeightsError where something is missing or damaged.
        """
        config = read_config(folder / "config.json")
        found = tensors.load(folder / TENSORS)
        codec = load_codec(weights.get(config.codec), str(model.language.device))
        language = beside(model.language, config.layers)
        tokens = SpeechTokens(language.size, codec.codebook_size, config.group)
        acoustic = Acoustic(AcousticConfig(**config.acoustic))
        language.add_lora(config.rank, config.alpha)
        take({"language": language.body, "tokens": tokens, "acoustic": acoustic}, found, folder)
        language.merge_lora()
        dtype = next(language.body.parameters()).dtype
        device = model.language.device
        own = {name: VoicePrompt.load(folder / f"{name}.safetensors") for name in sorted(set(config.voices.values()))}
        tokens, acoustic = tokens.to(device).eval(), acoustic.to(device, dtype).eval()
        language.eval().requires_grad_(False)
        return cls(config, language, model.vocabulary, tokens, acoustic, codec, own)

    def say(
        self,
        sentences: Sequence[str],
        lang: str,
        voice: VoicePrompt | None = None,
        sampling: Sampling | None = None,
        choose: Callable[[str, Iterable[Said]], Said] | None = None,
        pieces: list[Piece] | None = None,
    ) -> Iterator[Clip]:
        """The sound of sentences, marked as generated (`audio/mark.py`), as soon as it settles.

        Args:
            sentences: as they are said: no digits, no abbreviations.
            lang: one of `languages`.
            voice: who shall be heard; None: the language's own.
            choose: takes each sentence and several ways of saying it, gives one (`best_of`); None: the first.
            pieces: filled with the letters as they are said.
        Raises:
            TaskError: the language has no voice.
        """
        self.check(lang)
        marker = Marker(self.codec.sample_rate)
        filler = self._filler(voice, None) if voice else self._own_filler(lang).copy()
        told = [] if pieces is None else pieces
        for clip in filler.sound(self._latents(sentences, lang, filler, sampling or Sampling(), choose, told)):
            yield Clip(marker.push(clip.samples), clip.rate)
        yield Clip(marker.finish(), self.codec.sample_rate)

    def _latents(
        self,
        sentences: Sequence[str],
        lang: str,
        filler: Filler,
        sampling: Sampling,
        choose: Callable[[str, Iterable[Said]], Said] | None,
        told: list[Piece],
    ) -> Iterator[Tensor]:
        """Latents (t, D) of one chunk after another."""
        for number, sentence in enumerate(sentences):
            drawn = sampling.moved(number)
            if choose is None:
                pieces = _told(self.pieces(sentence, lang, drawn), told)
                yield from filler.chunks(labels(letters(sentence)), lang, pieces)
            else:
                said = choose(sentence, self._ways(sentence, lang, drawn, filler))
                filler.take(said.filler)
                told += said.pieces
                yield said.latents

    def _filler(self, voice: VoicePrompt, lang: str | None) -> Filler:
        return Filler(self.acoustic, self.codec, voice, lang, tells_codes=self.config.tells_codes)

    def _own_filler(self, lang: str) -> Filler:
        """Latents after a language's own voice, to which the output layer is fitted but once."""
        if lang not in self._begun:
            self._begun[lang] = self._filler(self.own[self.config.voices[lang]], lang)
        return self._begun[lang]

    def _ways(self, sentence: str, lang: str, sampling: Sampling, filler: Filler) -> Iterator[Said]:
        """Ways of saying a sentence, without end."""
        for number in range(1 << 16):
            trial = filler.copy()
            pieces = list(self.pieces(sentence, lang, sampling.moved(number * 1009)))
            latents = torch.cat(list(trial.chunks(labels(letters(sentence)), lang, iter(pieces))))
            yield Said(latents, trial, tuple(pieces))

    def pieces(self, sentence: str, lang: str, sampling: Sampling) -> Iterator[Piece]:
        """The first codebook of a sentence letter by letter, after the language's own voice."""
        lead = self.own[self.config.voices[lang]]
        ids = torch.tensor(instruction(f"{lead.text} {sentence}", self.vocabulary), device=self.language.device)
        words = self.language.embed(ids)
        steps, before = self._led(lead, lang)
        prompt = torch.cat([words, steps.to(words.dtype)])
        seconds = self.tokens.group / self.codec.frame_rate
        wanted = labels(letters(sentence))
        said = self._read(wanted, lang)
        is_silent = [False] * len(wanted)
        if lang in self.config.silent:
            is_silent = self.acoustic.is_silent(wanted, lang)
        return say(self.language, self.tokens, prompt, before, wanted, said, is_silent, seconds, sampling)

    @torch.inference_mode()
    def _read(self, wanted: Sequence[int], lang: str) -> Tensor:
        """The LLM's vectors (L, H) of letters."""
        device = self.language.device
        return self.tokens.read(torch.tensor([wanted], device=device), numbers([lang], device))[0]

    @torch.inference_mode()
    def _led(self, lead: VoicePrompt, lang: str) -> tuple[Tensor, list[int]]:
        """Embeddings (S, H) of a voice's steps, and the codes of the last one."""
        group, said = self.tokens.group, labels(lead.letters)
        bounds = lead.bounds(group)
        places = torch.tensor(spread(range(len(bounds) - 1), bounds)[::group])
        codes = lead.codes[0, : bounds[-1]].unflatten(0, (-1, group))
        before = torch.cat([torch.full_like(codes[:1], -1), codes[:-1]])
        return self.tokens.embed(before.to(self.language.device), self._read(said, lang)[places]), codes[-1].tolist()


def _told(pieces: Iterator[Piece], told: list[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        told.append(piece)
        yield piece


@dataclass(frozen=True)
class Said:
    """One way in which a sentence was said."""

    latents: Tensor  # (T, D)
    filler: Filler
    pieces: tuple[Piece, ...]

    @property
    def is_cut(self) -> bool:
        """Whether a letter had its most steps."""
        return any(piece.is_cut for piece in self.pieces)

    @property
    def clip(self) -> Clip:
        """Its sound, not marked."""
        clips = list(self.filler.sound([self.latents]))
        return Clip(np.concatenate([clip.samples for clip in clips]), clips[0].rate)


class Filler:
    """Latents of letters that come one by one, after a voice and what was said just now.

    The last frames of a chunk are settled with the next one, which tells how they go on.
    """

    def __init__(
        self, acoustic: Acoustic, codec: PocketCodec, voice: VoicePrompt, lang: str | None, *, tells_codes: bool = True
    ) -> None:
        """lang: of the voice; None: not known. tells_codes: see `VoiceConfig`."""
        self.tells_codes = tells_codes
        self.acoustic, self.codec, self.frame_rate = acoustic, codec, codec.frame_rate
        self.device = acoustic.codes.weight.device
        self.codes = torch.zeros(0, dtype=torch.long, device=self.device)  # of what was said just now
        self.said = torch.zeros(0, acoustic.config.size, device=self.device)  # (T, H) letters of them
        self.owed = 0  # frames at their end that are not settled
        self.is_begun = False
        self.voice_codes = voice.codes[0].to(self.device)
        bounds = voice.bounds(1)
        places = spread(range(len(bounds) - 1), bounds)
        heard = pitch.heights(torch.from_numpy(codec.decode(voice.codes).samples), codec.sample_rate, codec.hop_length)
        self.height = pitch.mean_height(heard)  # of the voice
        known = pitch.of_letters(heard[: len(places)], torch.tensor(places), len(bounds) - 1)
        self.voice_said = self._spread(self._read(labels(voice.letters), lang, known), places)
        self.latents = codec.latents(voice.codes).to(self.device)
        length = torch.tensor([len(self.latents)], device=self.device)
        known = self.voice_codes[None], self.voice_said[None], self.latents[None]
        with torch.inference_mode():
            self.refit = acoustic.refit(*known, length, is_new=lang is None)
        echo = self.refit.echo  # of its own voices the model has learned how much they vary
        self.spectra = None if echo is None else codec.global_variance(echo[0], self.latents)

    def sound(self, latents: Iterable[Tensor]) -> Iterator[Clip]:
        """The sound of latents (t, D) that `chunks` gave, not marked, as soon as it settles."""
        return self.codec.stream_latents(latents, self.spectra)

    @torch.inference_mode()
    def _read(self, wanted: Sequence[int], lang: str | None, pitches: Tensor | None = None) -> Tensor:
        """The acoustic model's vectors (L, H) of letters, with their pitch (L, 2), or one for the voice."""
        rows = torch.tensor([wanted], device=self.device)
        read = self.acoustic.text(rows, numbers([lang], self.device))
        if pitches is None:
            found = self.acoustic.pitch(read)
            return self.acoustic.sing(read, found + found.new_tensor([0.0, self.height]))[0].float()
        return self.acoustic.sing(read, pitches[None].to(self.device))[0].float()

    @torch.inference_mode()
    def _spread(self, read: Tensor, places: Sequence[int]) -> Tensor:
        """Those vectors, and how far each letter has got, (T, H) at frames that say these of them."""
        return self.acoustic.spread(read[None], torch.tensor([places], device=self.device))[0].float()

    def copy(self) -> Filler:
        """Another that goes on from here."""
        return copy.copy(self)

    def take(self, other: Filler) -> None:
        """Go on from where another stands."""
        vars(self).update(vars(other))

    def chunks(self, wanted: Sequence[int], lang: str, pieces: Iterator[Piece]) -> Iterator[Tensor]:
        """Latents (t, D) of a sentence's labels, as soon as there are enough for a chunk."""
        said = self._read(wanted, lang)
        waiting: list[Piece] = []
        for piece in pieces:
            waiting.append(piece)
            least = NEXT_SECONDS if self.is_begun else FIRST_SECONDS
            is_last = piece.place + 1 == len(wanted)
            if is_last or sum(len(each.codes) for each in waiting) >= least * self.frame_rate:
                yield self._fill(said, waiting, is_last=is_last)
                waiting = []

    def _fill(self, said: Tensor, pieces: Sequence[Piece], *, is_last: bool) -> Tensor:
        """Latents of the frames that are settled by these pieces; said: (L, H) the sentence's letters."""
        first = torch.tensor([code for piece in pieces for code in piece.codes]).to(self.codes)
        if not self.tells_codes:
            first = torch.full_like(first, self.acoustic.config.codebook_size)
        places = [piece.place for piece in pieces for _ in piece.codes]
        self.codes, self.said = torch.cat([self.codes, first]), torch.cat([self.said, self._spread(said, places)])
        known = torch.cat([self.voice_codes, self.codes]), torch.cat([self.voice_said, self.said])
        found = self.acoustic.fill(*known, self.latents, self.refit)
        held = 0 if is_last else min(len(first), round(AHEAD_SECONDS * self.frame_rate))
        settled = found[len(found) - len(first) - self.owed : len(found) - held]
        kept = round(PAST_SECONDS * self.frame_rate)
        self.codes, self.said, self.owed = self.codes[-kept:], self.said[-kept:], held
        self.is_begun = True
        return settled


def instruction(text: str, vocabulary: Vocabulary, wording: int = 0) -> tuple[int, ...]:
    """Ids of the request to say a text, up to where the answer begins."""
    wordings = prompts.load("speak").train
    asked = Conversation.ask(prompts.fill(wordings[wording % len(wordings)], {"text": text}), audio=False)
    return tuple(fill_in(render(asked, vocabulary.form, vocabulary), []).ids)


def beside(language: Language, layers: int) -> Language:
    """Another LLM of the lowest layers, with the same embedding and head, whose body can be adapted alone."""
    model, above = language.model, language.body.layers[layers:]  # type: ignore[union-attr]
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    shared: dict[int, object] = {id(each): each for each in ends}
    shared |= {id(layer): nn.Identity() for layer in above}  # not copied, and dropped
    made = Language(copy.deepcopy(model, shared))
    made.body.layers = made.body.layers[:layers]  # type: ignore[union-attr]
    return made


def take(parts: dict[str, torch.nn.Module], found: dict[str, Tensor], folder: Path) -> None:
    """Put a folder's tensors into the parts that learn: of the LLM its adapter, of the others everything.

    Raises WeightsError when one is missing or of another shape.
    """
    for name, parameter in trained(parts).items():
        tensor = found.get(name)
        if tensor is None or tensor.shape != parameter.shape:
            raise WeightsError(f"{folder}: the tensor {name} is missing or of another shape; is config.json its own?")
        parameter.data.copy_(tensor)


def trained(parts: dict[str, torch.nn.Module]) -> dict[str, Tensor]:
    """The tensors that a voice's folder holds, by part and name."""
    return {
        f"{part}.{name}": parameter
        for part, module in parts.items()
        for name, parameter in chain(module.named_parameters(), module.named_buffers())
        if part != "language" or "lora_" in name
    }


def save(config: VoiceConfig, parts: dict[str, torch.nn.Module], own: dict[str, VoicePrompt], folder: Path) -> None:
    """Write a voice's folder: config.json, the tensors in 8 bits, and its voices."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "voice", **asdict(config)}, indent=2) + "\n", "utf-8")
    tensors.save({name: each.detach() for name, each in trained(parts).items()}, folder / TENSORS, bits=8)
    for name, prompt in own.items():
        prompt.save(folder / f"{name}.safetensors")


def read_config(path: Path) -> VoiceConfig:
    """The config of a voice's folder; raises WeightsError in one line for what is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict) or content.pop("model_type", None) != "voice":
            raise ValueError("it must be a mapping with model_type voice")
        acoustic = content.get("acoustic", {})
        if said := fields.wrong(VoiceConfig, content) or fields.wrong(AcousticConfig, acoustic):
            raise ValueError(said)
        for name, value in {**content, **acoustic}.items():
            may_be_zero = name in ("dropout", "signs", "tells_codes")
            if isinstance(value, (int, float)) and (value < 0 or (value == 0 and not may_be_zero)):
                raise ValueError(f"{name} must be above 0, not {value}")
        AcousticConfig(**acoustic).conformer()
        config = VoiceConfig(**content)
        if config.group > WIDEST_STEP:
            raise ValueError(f"group is at most {WIDEST_STEP}, not {config.group}: voices are cut to such steps")
        return config
    except (OSError, ValueError, RecursionError, TypeError, DataError) as error:
        raise WeightsError(f"{path} is of no voice: {' '.join(str(error).split())[:200]}") from error
