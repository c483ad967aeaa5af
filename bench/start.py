"""How long until the first answer, from a cold start, and how much memory it takes at most.

    python -m bench.start

Each figure comes from a fresh Python process (median of several): the time of `import speechllm`, the time
from starting the process to the first answer about a clip of the demo (weights in the user's cache, files
warm in memory), the next answer, and the largest resident memory of the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench import report

CLIP = Path(__file__).parents[1] / "demos" / "clips" / "en_clouds.ogg"
LABELS = {
    "load": "from start to loaded, seconds",
    "first": "from start to the first answer, seconds",
    "next": "the next answer, seconds",
    "peak": "largest resident memory, GiB",
}
IMPORT = "import time; begin = time.perf_counter(); import speechllm; print(time.perf_counter() - begin)"
ANSWER = """
import json, resource, sys, time
model, device, clip = sys.argv[1:]
from speechllm import Assistant
assistant = Assistant(model, device=device or None)
loaded = time.time()
assistant.run("transcribe", audio=clip)
first = time.time()
assistant.run("transcribe", audio=clip)
second = time.time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"loaded": loaded, "first": first, "second": second, "peak": peak}))
"""


def in_process(code: str, *arguments: str, threads: int) -> str:
    """The last line that a fresh Python prints. Raises RuntimeError with its last words when it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip().splitlines()[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "start")
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes for each figure (default: 5)")
    options = parser.parse_args(arguments)
    repeats = min(options.repeats, options.limit or options.repeats)
    imports = [float(in_process(IMPORT, threads=options.threads)) for _ in range(repeats)]
    found: list[dict[str, float]] = []
    for _ in report.progress(range(repeats), "cold starts"):
        begin = time.time()
        line = in_process(ANSWER, options.model, options.device or "", str(CLIP), threads=options.threads)
        times = json.loads(line)
        found.append(
            {"load": times["loaded"] - begin, "first": times["first"] - begin,
             "next": times["second"] - times["first"], "peak": times["peak"] / 2**30}
        )  # fmt: skip
    middle = {name: median(each[name] for each in found) for name in found[0]}
    rows = [["import speechllm, seconds", median(imports), min(imports), max(imports)]]
    for name, label in LABELS.items():
        every = [one[name] for one in found]
        rows.append([label, middle[name], min(every), max(every)])
    bars = [
        report.Bar("import speechllm, seconds", median(imports), 0.3),
        report.Bar("cold start to the first answer, seconds", middle["first"], 10.0),
        report.Bar("largest resident memory, GB", max(one["peak"] for one in found) * 2**30 / 1e9, 2.5),
    ]
    report.finish("start", options, ("start", "median", "least", "most"), rows, bars)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
