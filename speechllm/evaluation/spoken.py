"""Measure speaking on the rows of a manifest: say each text, hear what came out, report.

A row has `text` and may have `lang` (default: en), `voice` (a clip to speak like, relative to the manifest) and its
`voice_text`, `reference` (another clip of that speaker), `speaker`, and `duration` (seconds that the text should take).
What was said is measured by a recogniser's error rates, the voice by the cosine of speaker embeddings, the sound by
DNSMOS. `listening.py` writes a page to hear it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from speechllm import languages
from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.data import corpora
from speechllm.errors import DataError, SpeechLLMError, TaskError
from speechllm.evaluation import metrics
from speechllm.fields import shown

HZ = 16_000
CHARACTERS_PER_SECOND = 15.0  # of unhurried reading: the yardstick where a row has no `duration`
SHORTEST_SECONDS = 1.0  # that a text is expected to take: one word is slower than a sentence
SILENT_DECIBELS = -50.0  # below full scale (RMS)
RUNAWAY_RATIO = 2.5  # of the expected duration
FIGURES = {
    "wer": "% of words, as the recogniser reads them",
    "cer": "% of characters",
    "similarity": "of the voice to its prompt, cosine",
    "similarity_same_speaker": "two recordings of one speaker",
    "similarity_other_speaker": "prompts of different speakers",
    "dnsmos": "overall, 1 to 5",
    "dnsmos_prompt": "of the voice prompts",
    "duration_ratio": "seconds per second expected, median",
    "real_time_factor": "seconds of work per second of sound",
    "first_audio": "seconds until the first sound, median",
    "silent": "rows without a sound or a word",
    "runaway": "rows that did not end in time",
    "errors": "rows without an answer; they count as nothing said",
    "rows": "in all",
}


@dataclass(frozen=True)
class SpokenRow:
    """One text to say."""

    text: str
    lang: str = "en"  # ISO 639-1
    voice: Path | Clip | None = None  # None: the model's own
    voice_text: str | None = None  # what is said in `voice`
    reference: Path | Clip | None = None  # another recording of that speaker
    speaker: str | None = None  # name of the voice
    duration: float | None = None  # seconds that it should take

    @property
    def expected_seconds(self) -> float:
        """How long it should take to say the text."""
        return self.duration or max(SHORTEST_SECONDS, len(self.text) / CHARACTERS_PER_SECOND)


@dataclass(frozen=True)
class Instruments:
    """What hears for us; each takes a clip of any rate."""

    read: Callable[[Clip, str], str]  # a clip and its language (ISO 639-1) to its words
    embed: Callable[[Clip], Any]  # to the unit vector (D,) of its speaker
    quality: Callable[[Clip], float]  # to a score from 1, bad, to 5, excellent


@dataclass(frozen=True)
class Spoken:
    """What one row gave; None is what could not be measured."""

    row: SpokenRow
    read: str = ""  # what the recogniser heard
    wer: float = 100.0  # %
    cer: float = 100.0  # %
    similarity: float | None = None  # to the voice prompt
    similarity_same_speaker: float | None = None  # of the prompt to the reference
    dnsmos: float | None = None
    dnsmos_prompt: float | None = None
    seconds: float = 0.0  # of sound
    work: float = 0.0  # seconds
    duration_ratio: float | None = None
    real_time_factor: float | None = None
    first_audio: float | None = None  # seconds
    is_silent: bool = False
    is_runaway: bool = False
    error: str | None = None  # why there is no answer
    audio: Clip | None = field(default=None, repr=False)
    prompt: Clip | None = field(default=None, repr=False)

    def saved(self) -> dict[str, Any]:
        """The row as JSON holds it: without its sound."""
        left_out = ("row", "audio", "prompt")
        row = {each.name: _named(getattr(self.row, each.name)) for each in fields(self.row)}
        return {**row, **{each.name: getattr(self, each.name) for each in fields(self) if each.name not in left_out}}


def _named(value: Any) -> Any:
    if isinstance(value, Clip):
        return f"a clip of {value.seconds:.2f} s"
    return str(value) if isinstance(value, Path) else value


Say = Callable[[SpokenRow], Any]  # gives `audio` (Clip), `timings` ("first_audio", "total": seconds) and `finish`


@dataclass(frozen=True)
class Report:
    """What an evaluation of speaking found."""

    samples: list[Spoken] = field(repr=False)
    similarity_other_speaker: float | None  # mean over all pairs of prompts of different speakers

    def figures(self) -> dict[str, float | None]:
        """Figures by the names of FIGURES, in their units; None where no row has one.

        Error rates are of the whole set (sum of edits / sum of reference).
        """
        results = [metrics.Result(each.read, (each.row.text,), each.row.lang) for each in self.samples]
        seconds = sum(each.seconds for each in self.samples)
        return {
            "wer": metrics.wer(results).value,
            "cer": metrics.cer(results).value,
            "similarity": self._over(mean, "similarity"),
            "similarity_same_speaker": self._over(mean, "similarity_same_speaker"),
            "similarity_other_speaker": self.similarity_other_speaker,
            "dnsmos": self._over(mean, "dnsmos"),
            "dnsmos_prompt": self._over(mean, "dnsmos_prompt"),
            "duration_ratio": self._over(median, "duration_ratio"),
            "real_time_factor": sum(each.work for each in self.samples) / seconds if seconds else None,
            "first_audio": self._over(median, "first_audio"),
            "silent": sum(each.is_silent for each in self.samples),
            "runaway": sum(each.is_runaway for each in self.samples),
            "errors": sum(each.error is not None for each in self.samples),
            "rows": len(self.samples),
        }

    def _over(self, statistic: Callable[[list[float]], float], name: str) -> float | None:
        found = [value for each in self.samples if (value := getattr(each, name)) is not None]
        return statistic(found) if found else None

    def table(self) -> str:
        """The figures as lines of text."""
        found = self.figures()
        lines = [f"speak: {found['rows']} rows, {sum(each.seconds for each in self.samples):.1f} s of audio"]
        lines += [f"  {name:24} {formatted(found[name]):>7}   {FIGURES[name]}" for name in found if name != "rows"]
        if first := next((each for each in self.samples if each.error), None):
            lines.append(f"  the first row without an answer: {shown(first.row.text)}: {first.error}")
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write figures and rows as JSON. Raises DataError when the file cannot be written."""
        made = {"task": "speak", "figures": self.figures(), "samples": [each.saved() for each in self.samples]}
        try:
            Path(path).write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def formatted(value: float | None) -> str:
    """A figure as a table shows it: counts whole, others at two digits, "-" for none."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def read(
    path: str | Path,
    *,
    voice: Path | None = None,
    voice_text: str | None = None,
    split: str | None = None,
    lang: str | None = None,
    limit: int | None = None,
) -> list[SpokenRow]:
    """Rows of a manifest (or of the folder that holds it), of one split and language if given.

    voice, voice_text: for rows without a voice of their own; limit: rows that are read at most.
    Raises DataError, with the line, for a field that is missing, of the wrong kind, or no file.
    """
    path = Path(path)
    path = path / "manifest.jsonl" if path.is_dir() else path
    wanted, rows = languages.code(lang) if lang else None, []
    for number, given in corpora.numbered_rows(path):
        if limit is not None and len(rows) >= limit:
            break
        if split and given.get("split") != split:
            continue
        row = _row(given, path.parent, f"{path}, line {number}", voice, voice_text)
        if wanted in (None, row.lang):
            rows.append(row)
    return rows


def _row(given: Mapping[str, Any], folder: Path, where: str, voice: Path | None, voice_text: str | None) -> SpokenRow:
    text, lang, seconds = given.get("text"), given.get("lang") or "en", given.get("duration")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: text is what shall be said, not {shown(text)}")
    for name in ("lang", "voice", "voice_text", "reference", "speaker"):
        if given.get(name) is not None and not isinstance(given[name], str):
            raise DataError(f"{where}: {name} is a text, not {shown(given[name])}")
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and 0 < seconds < 1e6):
        raise DataError(f"{where}: duration is a number of seconds above 0, not {shown(seconds)}")
    try:
        lang = languages.code(lang)
    except TaskError as error:
        raise DataError(f"{where}: {error}") from error
    own, reference = (_file(given.get(name), folder, f"{where}: {name}") for name in ("voice", "reference"))
    if own is not None:
        voice, voice_text = own, given.get("voice_text")
    return SpokenRow(text, lang, voice, voice_text, reference, given.get("speaker"), seconds)


def _file(name: str | None, folder: Path, where: str) -> Path | None:
    if name is None:
        return None
    try:
        is_there = (folder / name).is_file()
    except (OSError, ValueError):  # a path that no file can have
        is_there = False
    if not is_there:
        raise DataError(f"{where}: there is no recording {name[:200]!r}; paths are relative to the manifest")
    return folder / name


def measure(say: Say, rows: Iterable[SpokenRow], instruments: Instruments, *, progress: bool = True) -> Report:
    """Say the rows one by one and measure each.

    A row that raises a SpeechLLMError stays, with its error, and counts as nothing said. A silent answer has a
    similarity of 0. Raises DataError where no row has a word.
    """
    chosen = list(rows)
    if not any(_has_words(row.text) for row in chosen):
        raise DataError("no word in the field 'text' of any row: there is nothing to say")
    ears = _Ears(instruments)
    samples = [ears.spoken(say, row) for row in (_shown(chosen) if progress else chosen)]
    return Report(samples, _other_speakers(samples, ears))


def _shown(rows: Sequence[SpokenRow]) -> Iterable[SpokenRow]:
    from tqdm import tqdm

    return tqdm(rows, desc="speak", unit="row", dynamic_ncols=True)


class _Ears:
    """The instruments, with what they found of each voice kept: many rows may share one."""

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments
        self.clip = cache(lambda source: load(source, rate=HZ))
        self.embedding = cache(lambda source: np.asarray(instruments.embed(self.clip(source))))
        self.quality = cache(lambda source: float(instruments.quality(self.clip(source))))

    def spoken(self, say: Say, row: SpokenRow) -> Spoken:
        """A row said and measured."""
        try:
            voice = self._of_voice(row)  # first: what cannot be compared need not be said
            begin = time.perf_counter()
            answer = say(row)
            return self._measured(row, answer, time.perf_counter() - begin, voice)
        except SpeechLLMError as error:
            return Spoken(row, error=" ".join(f"{type(error).__name__}: {error}".split()))

    def _of_voice(self, row: SpokenRow) -> dict[str, Any]:
        if row.voice is None:
            return {}
        found = {"prompt": self.clip(row.voice), "dnsmos_prompt": self.quality(row.voice)}
        own = self.embedding(row.voice)
        if row.reference is not None:
            found["similarity_same_speaker"] = float(own @ self.embedding(row.reference))
        return found

    def _measured(self, row: SpokenRow, answer: Any, took: float, voice: dict[str, Any]) -> Spoken:
        clip = answer.audio
        if clip is None:
            raise TaskError("the answer has no sound")
        is_audible = decibels(clip) >= SILENT_DECIBELS
        read = self.instruments.read(clip, row.lang).strip() if len(clip.samples) else ""
        result = [metrics.Result(read, (row.text,), row.lang)]
        similarity = None
        if row.voice is not None:
            heard = np.asarray(self.instruments.embed(clip)) if is_audible else 0.0 * self.embedding(row.voice)
            similarity = float(self.embedding(row.voice) @ heard)
        work, ratio = answer.timings.get("total", took), clip.seconds / row.expected_seconds
        return Spoken(
            row,
            read,
            wer=metrics.wer(result).value,
            cer=metrics.cer(result).value,
            similarity=similarity,
            dnsmos=float(self.instruments.quality(clip)) if len(clip.samples) else None,
            seconds=clip.seconds,
            work=work,
            duration_ratio=ratio,
            real_time_factor=work / clip.seconds if clip.seconds else None,
            first_audio=answer.timings.get("first_audio"),
            is_silent=not is_audible or not _has_words(read),
            is_runaway=answer.finish == "length" or ratio > RUNAWAY_RATIO,
            audio=clip,
            **voice,
        )


def _has_words(text: str) -> bool:
    """Whether there is a letter or a figure: of "..." the normaliser for English leaves a point."""
    return any(map(str.isalnum, text))


def decibels(clip: Clip) -> float:
    """Level (RMS) of a clip in dB below full scale; minus infinity for one without sound."""
    power = float(np.mean(np.square(clip.samples, dtype=np.float64))) if len(clip.samples) else 0.0
    return 10 * math.log10(power) if power > 0 else -math.inf


def _other_speakers(samples: Sequence[Spoken], ears: _Ears) -> float | None:
    """Mean cosine over the pairs of voice prompts whose rows name different speakers."""
    named = {each.row.voice: each.row.speaker for each in samples if each.prompt is not None and each.row.speaker}
    if len(set(named.values())) < 2:
        return None
    vectors, speakers = np.stack([ears.embedding(voice) for voice in named]), np.array(list(named.values()))
    return float((vectors @ vectors.T)[speakers[:, None] != speakers[None, :]].mean())
