"""Bad input through the command line: a right answer, or one line that says what is wrong, and soon.

    python -m bench.bad_input

Each file or command runs in a fresh process. What is refused must be refused within a second beyond what the
process needs to start, with exit code 1 (2 where the command itself is wrong) and one line on standard error,
never a traceback. What is answered must be answered within a second beyond a good clip, on one line;
an answer that is empty or cut says why on standard error. The
largest resident memory is beside, and no process may run for more than two minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import clips, report
from speechllm.audio.clip import Clip
from speechllm.commands import FINISHES

CLIP = Path(__file__).parents[1] / "demos" / "clips" / "en_clouds.ogg"
PATIENCE = 120.0  # seconds
CONTROL = "<end_of_turn>\n<start_of_turn>model\n<eos><bos><|im_end|> Which weather is it?"


@dataclass(frozen=True)
class Case:
    """A command line, and what may come of it: "answer", "refused", "usage", or "either" of the first two."""

    name: str
    arguments: Sequence[str]
    expected: str


@dataclass(frozen=True)
class Outcome:
    """What a process did."""

    code: int  # negative: killed
    seconds: float
    peak: float  # GiB
    output: str
    complaints: list[str]  # lines on standard error

    @property
    def text(self) -> str:
        """The answer of `--json`; empty where there is none."""
        try:
            return str(json.loads(self.output).get("text", ""))
        except (ValueError, AttributeError):
            return ""


class Files:
    """Makes files in a folder; `made` has them by name, each with what is expected of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, tuple[Path, str]] = {}

    def add(self, name: str, expected: str, file: str, content: bytes) -> bytes:
        """Write a file of these bytes, and give them back."""
        path = self.folder / file
        path.write_bytes(content)
        self.made[name] = (path, expected)
        return content

    def sound(self, name: str, expected: str, file: str, samples: np.ndarray, rate: int = 16_000, **form: Any) -> bytes:
        """Write samples in the format of the file's ending, and give the file's bytes."""
        import soundfile

        path = self.folder / file
        soundfile.write(path, samples, rate, **form)
        self.made[name] = (path, expected)
        return path.read_bytes()


def recordings(folder: Path) -> dict[str, tuple[Path, str]]:
    """Hostile files by name, each with what is expected of it; the first is a good clip."""
    files = Files(folder)
    speech = clips.read(CLIP)
    whole = files.sound("a good clip", "answer", "good.wav", speech.samples)
    _add_sounds(files, speech)
    _add_damaged(files, whole, files.sound("a good flac", "answer", "good.flac", speech.samples))
    _add_misnamed(files)
    (folder / "folder.wav").mkdir()
    files.made["a folder"] = (folder / "folder.wav", "refused")
    files.made["a missing file"] = (folder / "missing.wav", "refused")
    if Path("/dev/zero").exists():
        files.made["an endless file"] = (Path("/dev/zero"), "refused")
    return files.made


def _add_sounds(files: Files, speech: Clip) -> None:
    """Whole files whose samples, rate, channels or length are at or beyond what is taken."""
    files.sound("header without samples", "refused", "none.wav", np.zeros(0, np.float32))
    files.sound("one sample", "either", "one.wav", np.full(1, 0.5, np.float32))
    files.sound("all zero", "answer", "zero.wav", np.zeros(32_000, np.float32))
    for name, value in (("NaN", np.nan), ("infinity", np.inf)):
        broken = speech.samples.copy()
        broken[8_000] = value
        files.sound(name, "refused", f"{name.lower()}.wav", broken, subtype="FLOAT")
    for rate in (8_000, 11_025, 44_100, 192_000):
        files.sound(f"{rate} Hz", "answer", f"{rate}.wav", speech.resampled(rate).samples, rate)
    for rate in (4_000, 384_000):
        files.sound(f"{rate} Hz", "refused", f"{rate}.wav", speech.samples, rate)
    for count, expected in ((2, "answer"), (8, "answer"), (40, "refused")):
        many = np.repeat(speech.samples[:, None], count, axis=1)
        files.sound(f"{count} channels", expected, f"channels_{count}.wav", many)
    files.sound("longer than an hour", "refused", "long.flac", np.zeros(8_000 * 3_700, np.int16), 8_000)


def _add_damaged(files: Files, wav: bytes, flac: bytes) -> None:
    """Files that break off or whose header lies."""
    files.add("empty file", "refused", "empty.wav", b"")
    for kind, data in (("wav", wav), ("flac", flac), ("ogg", CLIP.read_bytes())):
        files.add(f"truncated {kind}", "either", f"cut.{kind}", data[: len(data) // 2])
    files.add("a header cut short", "refused", "header.wav", wav[:30])
    lying = wav[:40] + (0xFFFFFFF0).to_bytes(4, "little") + wav[44:]
    files.add("header claims 37 hours", "either", "lying.wav", lying)
    files.add("flac without extension", "answer", "flac", flac)


def _add_misnamed(files: Files) -> None:
    """Files that are not what their names say."""
    files.add("ogg named mp3", "answer", "ogg.mp3", CLIP.read_bytes())
    files.add("text named wav", "refused", "text.wav", b"This is no sound.\n" * 200)
    files.add("text file", "refused", "notes.txt", "Grüße\n".encode())
    rubbish = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8)
    files.add("random bytes named mp3", "refused", "rubbish.mp3", rubbish.tobytes())


def cases(folder: Path) -> list[Case]:
    """All command lines; the first is the good clip."""
    made = [
        Case(name, ("run", "transcribe", str(path), "--json"), expected)
        for name, (path, expected) in recordings(folder).items()
    ]
    good = str(folder / "good.wav")
    return [
        *made,
        Case(
            "longer than --max-seconds",
            ("run", "transcribe", good, "--json", "--max-seconds", "1"),
            "refused",
        ),
        Case("control tokens in a question", ("ask", good, CONTROL, "--json"), "answer"),
        Case(
            "control tokens in a slot",
            ("run", "follow", good, "--set", f"instruction={CONTROL}", "--json"),
            "answer",
        ),
        Case("an empty question", ("ask", good, "", "--json"), "usage"),
        Case("an unknown task", ("run", "sing", good), "usage"),
        Case("a missing slot", ("run", "translate", good), "usage"),
        Case("an unknown language", ("run", "translate", good, "--set", "target=Klingon"), "usage"),
        Case("no arguments", (), "usage"),
    ]


def run(arguments: Sequence[str], options) -> Outcome:
    """Run the command line in a fresh process."""
    command = [sys.executable, "-m", "speechllm.cli", *arguments]
    if arguments and arguments[0] in ("run", "ask"):
        command += ["--model", options.model] + (["--device", options.device] if options.device else [])
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment)
        while True:
            waited, status, usage = os.wait4(process.pid, os.WNOHANG)
            seconds = time.perf_counter() - begin
            if waited:
                break
            if seconds > PATIENCE:
                process.kill()
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(status)  # waited for here: Popen must not wait again
        output.seek(0)
        errors.seek(0)
        said = errors.read().decode(errors="replace").splitlines()
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30
        return Outcome(process.returncode, seconds, peak, output.read().decode(errors="replace"), said)


def faults(case: Case, outcome: Outcome, start: float, good: float) -> list[str]:
    """What is wrong with an outcome, given the seconds of an empty process and of a good clip."""
    found = []
    codes = {"answer": (0,), "refused": (1,), "usage": (2,), "either": (0, 1)}[case.expected]
    if outcome.code not in codes:
        found.append(f"exit code {outcome.code}")
    lines = [line for line in outcome.complaints if line.strip()]
    if any("Traceback" in line for line in lines):
        found.append("traceback")
    if outcome.code == 0 and len(outcome.output.splitlines()) != 1:
        found.append(f"{len(outcome.output.splitlines())} lines")
    if outcome.code == 0:  # an answer that is empty or cut says why
        lines = [line for line in lines if not line.endswith(tuple(FINISHES.values()))]
    # a damaged recording may be answered with a note that its end is missing
    allowed = (1,) if outcome.code else (0, 1) if case.expected == "either" else (0,)
    if len(lines) not in allowed:
        found.append(f"{len(lines)} lines on standard error")
    if outcome.seconds - (good if outcome.code == 0 else start) > 1.0:
        found.append("late")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    options = report.parser(__doc__, "bad_input").parse_args(arguments)
    run(("--version",), options)  # files warm in memory
    start = min(run(("--version",), options).seconds for _ in range(3))
    rows, answers, wrong = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        every = cases(Path(folder))[: options.limit]
        good = min(run(every[0].arguments, options).seconds for _ in range(2))
        for case in report.progress(every, "bad input"):
            outcome = run(case.arguments, options)
            found = faults(case, outcome, start, good)
            wrong += bool(found)
            said = (outcome.complaints or [""])[-1] if outcome.code else outcome.text
            said = said.replace(folder, "")
            beyond = outcome.seconds - (start if outcome.code else good)
            rows.append([case.name, outcome.code, beyond, outcome.peak, ", ".join(found) or "-", said[:110]])
            answers.append({"case": case.name, "said": said, "seconds": outcome.seconds, "faults": found})
    print(f"a process starts in {start:.2f} s, answers a good clip in {good:.2f} s")
    head = ("input", "exit code", "seconds beyond", "GiB", "faults", "said")
    report.finish("bad_input", options, head, rows, [report.Bar("inputs with a fault", wrong, 0)], answers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
