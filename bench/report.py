"""What every benchmark shares: its options, the machine's description, the table it prints and the JSON it
leaves.

A whole run writes `bench/results/NAME.json`; a quick try with `--limit` leaves that file alone. Bars are the
figures that the project holds itself to.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("torch", "transformers", "faster-whisper", "ctranslate2", "onnxruntime", "sacrebleu", "numpy")
Value = TypeVar("Value")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Bar:
    """A figure beside what it is held to."""

    figure: str
    value: float
    limit: float
    at_most: bool = True  # else at least

    @property
    def is_met(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{'met ' if self.is_met else 'MISSED'}  {self.figure}: {self.value:.4g} {sign} {self.limit:.4g}"


def parser(documentation: str | None, name: str, model: bool = True) -> argparse.ArgumentParser:
    """Options of a benchmark; its help is the module's documentation."""
    made = argparse.ArgumentParser(
        prog=f"python -m bench.{name}", description=documentation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    if model:
        made.add_argument("--model", default="pocket", help="name, folder or hub id (default: pocket)")
        made.add_argument("--device", help="default: a GPU if there is one, else cpu")
    made.add_argument("--threads", type=int, default=2, help="of the processor, for us and for peers (default: 2)")
    made.add_argument("--limit", type=int, help="a quick try on so many rows of each set; writes no results file")
    made.add_argument("--json", type=Path, help="where to write the figures (default: bench/results, if no --limit)")
    made.add_argument("--answers", type=Path, help="write every single answer there, as JSON lines")
    return made


def assistant(options: argparse.Namespace) -> Any:
    """The loaded model that is measured."""
    from speechllm import Assistant

    use_threads(options.threads)
    return Assistant(options.model, device=options.device)


def use_threads(threads: int) -> None:
    """Let torch use so many threads."""
    import torch

    torch.set_num_threads(threads)


def timed(
    call: Callable[Arguments, Value], *arguments: Arguments.args, **named: Arguments.kwargs
) -> tuple[Value, float]:
    """What a call gives, and the seconds it took."""
    begin = time.perf_counter()
    value = call(*arguments, **named)
    return value, time.perf_counter() - begin


def progress(items: Sequence[Value], label: str) -> Iterable[Value]:
    """The items, with a bar on standard error; where no terminal shows it, a line now and then."""
    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(items, desc=label, unit="", dynamic_ncols=True, leave=False, mininterval=interval)


def hardware() -> dict[str, Any]:
    """Processor, cores, GPU and memory of this machine."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "memory_gb": round(memory / 2**30, 1),
        "load_at_the_end": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def versions() -> dict[str, str]:
    """Versions of this package and of what it stands on."""
    found = {}
    for name in ("speechllm", *PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def dtype(device: str | None) -> str:
    """Number format in which the model runs on a device."""
    import torch

    from speechllm.precision import fast_dtype

    return str(fast_dtype(device or ("cuda" if torch.cuda.is_available() else "cpu"))).removeprefix("torch.")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Lines of text: the first column to the left, numbers to the right."""
    cells = [list(head), *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers]).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _shown(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.3f}" if 0 < abs(cell) < 1 else f"{cell:.2f}"
    return "-" if cell is None else str(cell)


def _shown_path(path: Path) -> str:
    """From the project's folder on, where it lies in it."""
    root = RESULTS.parent.parent
    return str(path.relative_to(root) if path.is_relative_to(root) else path.name)


def finish(
    name: str,
    options: argparse.Namespace,
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    bars: Sequence[Bar] = (),
    answers: Sequence[dict[str, Any]] = (),
    **further: Any,
) -> dict[str, Any]:
    """Print a table and the bars, and write everything as JSON; gives what was written."""
    print(table(head, rows), *map(str, bars), sep="\n")
    settings = {key: _shown_path(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    found = {
        "name": name,
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "dtype": dtype(getattr(options, "device", None)),
        "versions": versions(),
        "options": {key: value for key, value in settings.items() if key not in ("json", "answers")},
        "table": [dict(zip(head, row, strict=True)) for row in rows],
        "bars": [{**dataclasses.asdict(bar), "is_met": bar.is_met} for bar in bars],
        **further,
    }
    path = options.json or (None if options.limit else RESULTS / f"{name}.json")
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if options.answers:
        with options.answers.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in answers)
    return found
