"""Measure a task on the rows of a manifest: run each, score the answers, report (`manifest.py` reads the rows)."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speechllm.errors import DataError, SpeechLLMError
from speechllm.evaluation import metrics
from speechllm.evaluation.manifest import EvaluationRow, read
from speechllm.tasks import SPOKEN_SLOTS, Task

__all__ = ["EvaluationRow", "Report", "Sample", "check", "evaluate", "read"]


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
        """Write the report as JSON. Raises DataError when the file cannot be written."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror or error}") from error

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


def check(rows: Sequence[EvaluationRow], task: Task) -> None:
    """Raise DataError when there is nothing to measure the task on, TaskError for a metric that is not known."""
    metrics.check(task.metrics)
    if not rows:
        raise DataError(
            f"no row to evaluate {task.name!r} on: see the split, the language and the field {task.target!r}"
        )
    rates = [name for name in task.metrics if name in ("wer", "cer")]
    if rates and not any(metrics.normalised(row.references[0], row.lang) for row in rows):
        raise DataError(f"no word in the field {task.target!r} of any row: an error rate ({rates[0]}) counts by them")


def evaluate(
    run: Callable[..., Any],
    task: Task,
    rows: Iterable[EvaluationRow],
    *,
    limit: int | None = None,
    progress: bool = True,
) -> Report:
    """Run the rows one by one and score the answers.

    run: `run(task, audio, **slots)` gives an answer with a `text`, as `Assistant.run` does; `language` comes with
    the slots where a row says what is spoken and no slot of the task does. A row that it fails on counts as an
    empty answer with the error in its sample. Raises as `check` does.
    """
    chosen = [row for row, _ in zip(rows, range(limit), strict=False)] if limit is not None else list(rows)
    check(chosen, task)
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
        spoken = {} if row.spoken is None or set(SPOKEN_SLOTS) & set(row.slots) else {"language": row.spoken}
        answer = run(task, row.audio, **row.slots, **spoken)
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
