"""Measure a task on a manifest: read the rows, run each, score the answers, report.

A row is any JSON object with `audio` (relative to the manifest) and the task's target field. A field
named like a slot fills it, `lang` fills a slot for the spoken language, and values set for the whole run
come before both. A target that is a map by language is looked up in the language that is asked for.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speechllm import languages
from speechllm.data import corpora
from speechllm.errors import DataError, SpeechLLMError, TaskError
from speechllm.evaluation import metrics
from speechllm.tasks import Task

SPOKEN_SLOTS = ("language", "source")  # slots that name the language that is spoken
_SINGULAR = {"answers": "answer", "answer": "answers"}  # a target field goes by either name


@dataclass(frozen=True)
class EvaluationRow:
    """One row to run."""

    audio: Path
    shown: str  # the audio as the row names it
    slots: Mapping[str, str]
    references: tuple[str, ...]
    lang: str  # language of the answer, ISO 639-1
    seconds: float | None
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """What one row gave."""

    audio: str
    prompt: str
    reference: str | list[str]
    answer: str
    error: str | None = None  # why there is no answer


@dataclass(frozen=True)
class Report:
    """What an evaluation found."""

    task: str
    metrics: dict[str, float]  # in the unit the table prints
    signature: dict[str, str]  # by metric
    n: int
    errors: int  # rows without an answer; they count as empty answers
    seconds_of_audio: float
    real_time_factor: float | None  # seconds of work per second of audio
    samples: list[Sample] = field(repr=False)

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def table(self) -> str:
        """The figures as lines of text."""
        lines = [f"{self.task}: {self.n} rows, {self.seconds_of_audio:.1f} s of audio"]
        lines += [f"  {name:10} {value:7.2f}   {self.signature[name]}" for name, value in self.metrics.items()]
        if self.real_time_factor is not None:
            lines.append(f"  real-time factor {self.real_time_factor:.3f}")
        if self.errors:
            first = next(sample for sample in self.samples if sample.error)
            lines.append(f"  {self.errors} rows gave no answer, the first: {first.audio}: {first.error}")
        return "\n".join(lines)


def read(
    path: str | Path,
    task: Task,
    *,
    split: str | None = None,
    lang: str | None = None,
    slots: Mapping[str, Any] | None = None,
) -> Iterator[EvaluationRow]:
    """Rows of a manifest for a task, of one split and one spoken language if given; `slots` hold for all.

    A row whose map of translations lacks the wanted language is left out. Raises DataError for a row
    without audio or target, TaskError for a slot that is missing or wrong.
    """
    path = Path(path)
    path = path / "manifest.jsonl" if path.is_dir() else path
    wanted = languages.code(lang) if lang else None
    for number, row in enumerate(corpora.rows(path), start=1):
        where = f"{path}, row {number}"
        if (split and row.get("split") != split) or (wanted and _code(row.get("lang")) != wanted):
            continue
        if not isinstance(row.get("audio"), str):
            raise DataError(f"{where}: no field 'audio'")
        filled = _slots(row, task, slots or {})
        values = task.values(filled)
        references = _references(row, task, filled, where)
        if references:
            spoken = _code(row.get("lang")) or "en"
            answered = languages.code(values["target"]) if "target" in values else spoken
            seconds = row.get("duration")
            yield EvaluationRow(path.parent / row["audio"], row["audio"], values, references, answered, seconds, row)


def _code(lang: Any) -> str | None:
    """ISO code of a row's language; one that is not known is kept as it is."""
    try:
        return languages.code(lang) if lang else None
    except TaskError:
        return str(lang)


def _slots(row: Mapping[str, Any], task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the slots: those given, else the row's fields, else the spoken language."""
    filled = dict(given)
    for name, slot in task.slots.items():
        if name in filled:
            continue
        value = row.get(name)
        if slot.kind == "language":
            # Manifests use such names for other things too: a `source` may be where the clip is from.
            candidates = [value, row.get("lang") if name in SPOKEN_SLOTS else None]
            value = next((one for one in candidates if isinstance(one, str) and _code(one) in languages.NAMES), None)
        if value is not None:
            filled[name] = value
    if "target" in task.slots and "target" not in filled and isinstance(row.get(task.target), Mapping):
        only = list(row[task.target])
        if len(only) == 1:
            filled["target"] = only[0]
    return filled


def _references(row: Mapping[str, Any], task: Task, slots: Mapping[str, Any], where: str) -> tuple[str, ...]:
    value = row.get(task.target, row.get(_SINGULAR.get(task.target, task.target)))
    if isinstance(value, Mapping):
        wanted = _code(slots.get("target") or row.get("lang"))
        value = next((text for lang, text in value.items() if _code(lang) == wanted), [])
    if isinstance(value, str | int | float):
        value = [str(value)]
    if not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise DataError(f"{where}: no right answer in the field {task.target!r}")
    return tuple(value)


def evaluate(
    run: Callable[..., Any],
    task: Task,
    rows: Iterable[EvaluationRow],
    *,
    limit: int | None = None,
    progress: bool = True,
) -> Report:
    """Run the rows one by one and score the answers.

    run: `run(task, audio, **slots)` gives an answer with a `text`, as `Assistant.run` does. A row that it
    fails on counts as an empty answer with the error in its sample. Raises DataError when there is no
    row, TaskError for a metric that is not known.
    """
    chosen = [row for row, _ in zip(rows, range(limit), strict=False)] if limit is not None else list(rows)
    if not chosen:
        raise DataError(
            f"no row to evaluate {task.name!r} on: see the split, the language and the field {task.target!r}"
        )
    metrics.check(task.metrics)
    samples, work = [], 0.0
    for row in _shown(chosen, task.name) if progress else chosen:
        start = time.perf_counter()
        sample = _run(run, task, row)
        work += time.perf_counter() - start
        samples.append(sample)
    results = [
        metrics.Result(sample.answer, row.references, row.lang, row.fields)
        for row, sample in zip(chosen, samples, strict=True)
    ]
    scores = {name: metrics.score(name, results) for name in task.metrics}
    seconds = sum(_seconds(row) for row in chosen)
    return Report(
        task=task.name,
        metrics={name: score.value for name, score in scores.items()},
        signature={name: score.signature for name, score in scores.items()},
        n=len(chosen),
        errors=sum(sample.error is not None for sample in samples),
        seconds_of_audio=seconds,
        real_time_factor=work / seconds if seconds else None,
        samples=samples,
    )


def _run(run: Callable[..., Any], task: Task, row: EvaluationRow) -> Sample:
    reference = row.references[0] if len(row.references) == 1 else list(row.references)
    prompt = task.instruction(row.slots)
    try:
        answer = run(task, row.audio, **row.slots)
    except (
        SpeechLLMError,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # one broken clip must not stop the rest
        return Sample(row.shown, prompt, reference, "", " ".join(f"{type(error).__name__}: {error}".split()))
    return Sample(row.shown, prompt, reference, answer.text)


def _shown(rows: Sequence[EvaluationRow], name: str) -> Iterable[EvaluationRow]:
    from tqdm import tqdm

    return tqdm(rows, desc=name, unit="clip", dynamic_ncols=True)


def _seconds(row: EvaluationRow) -> float:
    """Seconds of the row's audio: from the manifest, else from the file's header, else 0."""
    if row.seconds is not None:
        return float(row.seconds)
    import soundfile

    try:
        return float(soundfile.info(str(row.audio)).duration)
    except (OSError, RuntimeError):
        return 0.0
