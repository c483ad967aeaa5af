"""What is invented where nobody speaks: silence, noise and music must give an empty transcript.

    python -m bench.silence

Ten silences (digital zero and white noise down to -90 dB, 0.3 to 40 s), ten noises and ten pieces of music
from the evaluation splits; no language is given. Whisper base (faster-whisper, int8, greedy) is beside,
without and with its voice activity filter.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench import clips, report
from speechllm.audio.clip import Clip
from speechllm.data import corpora
from speechllm.evaluation.whisper_base import WhisperBase

ZERO = float("-inf")
SILENCES = (  # seconds, dB below full scale
    (0.3, ZERO), (2.0, ZERO), (10.0, ZERO), (40.0, ZERO), (3.0, -90.0), (3.0, -70.0), (3.0, -60.0),
    (5.0, -50.0), (5.0, -40.0), (20.0, -55.0),
)  # fmt: skip
OURS, PEER, FILTERED = "pocket", "whisper base", "whisper base + VAD"


def silences() -> list[tuple[str, Clip]]:
    """Ten clips without sound, or with the faintest."""
    return [
        (f"{seconds:g} s at {decibels:g} dB", clips.noise(seconds, decibels, seed))
        for seed, (seconds, decibels) in enumerate(SILENCES)
    ]


def recordings(name: str, count: int = 10) -> list[tuple[str, Clip]]:
    """Recordings spread evenly over the evaluation split of a set without speech."""
    every = list(corpora.speech(name, "eval"))
    chosen = [every[place * len(every) // count] for place in range(count)] if len(every) > count else every
    return [(example.audio.name, clips.read(example.audio)) for example in chosen]


def main(arguments: Sequence[str] | None = None) -> int:
    options = report.parser(__doc__, "silence").parse_args(arguments)
    groups = {"silence": silences(), "noise": recordings("noises"), "music": recordings("music")}
    assistant, peer = report.assistant(options), WhisperBase(options.threads)
    heard_by = {
        OURS: lambda clip: assistant.run("transcribe", audio=clip).text,
        PEER: lambda clip: peer.transcribe(clip.samples, None),
        FILTERED: lambda clip: peer.transcribe(clip.samples, None, vad=True),
    }
    rows, bars, answers = [], [], []
    for group, made in groups.items():
        invented = dict.fromkeys(heard_by, 0)
        made = made[: options.limit]
        for name, clip in report.progress(made, group):
            texts = {system: hear(clip).strip() for system, hear in heard_by.items()}
            answers.append({"group": group, "clip": name, **texts})
            for system, text in texts.items():
                invented[system] += bool(text)
        rows.append([group, len(made), *invented.values()])
        bars.append(report.Bar(f"{group}: transcripts that are not empty", invented[OURS], 0))
    for answer in answers:
        if answer[OURS]:
            print(f"{answer['group']}, {answer['clip']}: invented {answer[OURS]!r}")
    report.finish(
        "silence",
        options,
        ("not empty", "clips", *heard_by),
        rows,
        bars,
        answers,
        invented=[one for one in answers if one[OURS]],
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
