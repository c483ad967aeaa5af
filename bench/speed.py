"""Real-time factor of `transcribe` on short and long clips, beside Whisper base in the same run.

    python -m bench.speed

Clips of 2, 5, 15 and 30 seconds, made of LibriSpeech test-clean by joining neighbours and cutting. Both
systems are loaded and warm and take turns; each clip's time is the median of its repeats, and the table shows
the mean over the clips of a length. The peer is faster-whisper base, int8, greedy, the language given to
both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean, median

from bench import clips, report
from speechllm.audio.clip import Clip
from speechllm.evaluation.whisper_base import WhisperBase

LENGTHS = (2.0, 5.0, 15.0, 30.0)  # seconds
SET = "librispeech_test_clean"


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each call; the calls take turns, and in who is first."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats):
        for name in calls if repeat % 2 == 0 else reversed(calls):
            seconds[name].append(report.timed(calls[name])[1])
    return {name: median(times) for name, times in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "speed")
    parser.add_argument("--clips", type=int, default=4, help="of each length (default: 4)")
    parser.add_argument("--repeats", type=int, default=5, help="of each clip (default: 5)")
    options = parser.parse_args(arguments)
    count = min(options.clips, options.limit or options.clips)
    examples = clips.spoken(SET)
    assistant, peer = report.assistant(options), WhisperBase(options.threads)

    def ours(clip: Clip) -> Callable[[], str]:
        return lambda: assistant.run("transcribe", audio=clip, language="en").text

    def theirs(clip: Clip) -> Callable[[], str]:
        return lambda: peer.transcribe(clip.samples, "en")

    rows, bars = [], []
    for length in LENGTHS:
        made = clips.of_length(examples, length, count)
        medians({"ours": ours(made[0]), "peer": theirs(made[0])}, 1)  # warm
        both = [
            medians({"ours": ours(clip), "peer": theirs(clip)}, options.repeats)
            for clip in report.progress(made, f"{length:g} s")
        ]
        here, there = mean(each["ours"] for each in both), mean(each["peer"] for each in both)
        rows.append([f"{length:g} s", len(made), here, there, here / length, there / length, here / there])
        bars.append(report.Bar(f"time at {length:g} s, as a share of Whisper base's", here / there, 1.0))
    head = ("length", "clips", "seconds", "whisper base", "RTF", "RTF whisper base", "share")
    report.finish("speed", options, head, rows, bars)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
