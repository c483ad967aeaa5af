"""Run benchmarks one after another, each in a process of its own.

    python -m bench                         # all of them, about an hour and a half on two cores
    python -m bench speed words             # some
    python -m bench --limit 3               # options go to each

A bar that was missed is printed and is no failure.
"""

from __future__ import annotations

import subprocess
import sys

NAMES = (
    "start", "speed", "transcribe", "words", "silence", "translate", "questions", "follow", "equality",
    "bad_input", "codec", "speak", "interpret", "watermark",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Exit code 1 when a benchmark could not run."""
    names = [argument for argument in arguments if argument in NAMES]
    options = [argument for argument in arguments if argument not in NAMES]
    if {"-h", "--help"} & set(options):
        print(__doc__, f"Names: {', '.join(NAMES)}", sep="\n")
        return 0
    failed = []
    for name in names or NAMES:
        print(f"\n{name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"bench.{name}", *options]).returncode:
            failed.append(name)
    if failed:
        print(f"could not run: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
