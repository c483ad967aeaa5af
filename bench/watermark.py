"""Whether the mark of generated speech is found again, and how often it is found where it is not.

    python -m bench.watermark                        # a few minutes on one core
    python -m bench.watermark --voices FOLDER        # a manifest of synthetic speech besides

Clips of five sets of read speech are marked, every other one at 24 kHz, and looked for after each attack: MP3 at
64 kbit/s, other rates and back, a cut of 3 s at random, and all of them one after another. False alarms are counted
on recordings of all shared sets and on cuts of 3 s of the longer ones, none of them marked.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from bench import clips, report
from speechllm.audio.clip import Clip
from speechllm.audio.decode import load
from speechllm.audio.mark import Detection, detect, mark
from speechllm.data import corpora
from speechllm.data.corpora import Example

MARKED = ("librispeech_train", "common_voice_v1_en", "librispeech_test_other", "css10_es", "kathleen_en")
REAL = (
    *MARKED, "librispeech_dev", "librispeech_test_clean", "common_voice_multi", "common_voice_later_en",
    "kerstin_de", "nathalie_nl", "coffee_orders_intent", "speech_commands", "music", "noises",
)  # fmt: skip
EACH, MOST_REAL = 50, 400  # clips of a set
RATES = (8_000, 22_050, 44_100)  # Hz
CUT_SECONDS = 3.0
SHORTER_SECONDS = (2.0, 1.0)  # told, not held to a bar
SHORTEST_SECONDS = 3.0  # of a clip that is marked
FRAME_SECONDS = 0.03  # of the segmental ratio


def mp3(clip: Clip, kilobits: int = 64) -> Clip:
    """The clip after MP3 (LAME) of so many kbit/s, at its rate."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as out:
        stream = out.add_stream("libmp3lame", rate=clip.rate, layout="mono")
        stream.bit_rate = kilobits * 1000
        frame = av.AudioFrame.from_ndarray(clip.samples[None].clip(-1.0, 1.0), format="fltp", layout="mono")
        frame.rate = clip.rate
        framer = av.AudioResampler(format="fltp", layout="mono", rate=clip.rate, frame_size=1152)
        for piece in [*framer.resample(frame), *framer.resample(None), None]:
            out.mux(stream.encode(piece))
    return load(file.getvalue(), rate=clip.rate)


def by_way_of(clip: Clip, hz: int) -> Clip:
    """The clip at another rate and back at its own."""
    return clip.resampled(hz).resampled(clip.rate)


def attacked(clip: Clip, seed: int) -> dict[str, Clip]:
    """What becomes of marked sound, by the attack's name; the seed places the cuts."""
    place = np.random.default_rng(seed).random()

    def cut(whole: Clip, seconds: float) -> Clip:
        start = place * (whole.seconds - seconds)
        return whole.cut(start, start + seconds)

    compressed = mp3(clip)
    resampled = compressed
    for hz in RATES:
        resampled = by_way_of(resampled, hz)
    return {
        "nothing": clip,
        "MP3 at 64 kbit/s": compressed,
        **{f"{hz / 1000:g} kHz and back": by_way_of(clip, hz) for hz in RATES},
        f"cut of {CUT_SECONDS:g} s": cut(clip, CUT_SECONDS),
        "all of these": cut(resampled, CUT_SECONDS),
        **{f"cut of {seconds:g} s": cut(clip, seconds) for seconds in SHORTER_SECONDS},
    }


def ratios(clip: Clip, marked: Clip) -> tuple[float, float]:
    """Sound over mark in dB: of the whole clip, and the mean of frames that are not silent (cut to -10..60)."""
    frame = round(FRAME_SECONDS * clip.rate)
    count = len(clip.samples) // frame
    sound, noise = (
        np.square(part[: count * frame].astype(np.float64)).reshape(count, frame).sum(axis=1)
        for part in (clip.samples, marked.samples - clip.samples)
    )
    loud = sound > 1e-4 * sound.max(initial=0.0)
    segments = 10 * np.log10(sound[loud] / np.maximum(noise[loud], 1e-20))
    return float(10 * np.log10(sound.sum() / noise.sum())), float(segments.clip(-10, 60).mean())


def spread(examples: Sequence[Example], count: int) -> list[Example]:
    """So many of them, evenly over the set."""
    return [examples[place * len(examples) // count] for place in range(min(count, len(examples)))]


def to_mark(voices: Path | None, each: int) -> list[tuple[str, Clip]]:
    """Clips that get the mark, with the names of their sets."""
    sets = {name: list(corpora.speech(name)) for name in MARKED}
    if voices:
        sets["synthetic"] = list(corpora.manifest(voices / "manifest.jsonl"))
    made = []
    for name, examples in sets.items():
        long = [example for example in examples if (example.seconds or 0.0) >= SHORTEST_SECONDS]
        for place, example in enumerate(spread(long, each)):
            made.append((name, load(str(example.audio), rate=24_000 if place % 2 else clips.RATE)))
    return made


def unmarked(most: int) -> Iterator[Clip]:
    """Real recordings, and a cut of 3 s from the middle of each that is twice as long."""
    for name in REAL:
        for example in report.progress(spread(list(corpora.speech(name)), most), name):
            clip = clips.read(example.audio)
            yield clip
            if clip.seconds >= 2 * CUT_SECONDS:
                yield clip.cut(CUT_SECONDS / 2, 1.5 * CUT_SECONDS)


def found_again(made: Sequence[tuple[str, Clip]]) -> tuple[list[list[Any]], list[dict[str, Any]], list[Any]]:
    """A row of the table for each attack, the answer for each clip and attack, and the ratios of each clip."""
    answers, measured = [], []
    by_attack: dict[str, list[Detection]] = {}
    for seed, (name, clip) in enumerate(report.progress(made, "marked")):
        marked = mark(clip)
        measured.append(ratios(clip, marked))
        for attack, changed in attacked(marked, seed).items():
            found = detect(changed)
            by_attack.setdefault(attack, []).append(found)
            answers.append({"set": name, "attack": attack, "seconds": clip.seconds, "score": found.score})
    rows = []
    for attack, each in by_attack.items():
        scores = np.array([found.score for found in each])
        share = sum(found.is_marked for found in each) / len(each)
        rows.append([attack, len(each), share, float(np.median(scores)), float(scores.min())])
    return rows, answers, measured


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "watermark", model=False)
    parser.add_argument("--voices", type=Path, help="a folder with synthetic speech and its manifest.jsonl")
    options = parser.parse_args(arguments)
    made = to_mark(options.voices, options.limit or EACH)
    rows, answers, measured = found_again(made)
    heard = [detect(clip) for clip in unmarked(options.limit or MOST_REAL)]
    others = [found.score for found in heard]
    alarms = sum(found.is_marked for found in heard)
    bars = [report.Bar(f"{row[0]}: found", row[2], 0.99, at_most=False) for row in rows[: -len(SHORTER_SECONDS)]]
    bars.append(report.Bar("false alarms", alarms / len(heard), 0.001))
    whole, segmental = np.array(measured).T
    report.finish(
        "watermark",
        options,
        ("attack", "clips", "share found", "median score", "lowest score"),
        [*rows, ["no mark", len(heard), alarms / len(heard), float(np.median(others)), min(others)]],
        bars,
        answers,
        clips=len(made),
        found={row[0]: row[2] for row in rows},
        false_alarms={"count": alarms, "of": len(heard), "highest_score": max(others)},
        snr_db={"whole": float(whole.mean()), "lowest": float(whole.min()), "segmental": float(segmental.mean())},
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
