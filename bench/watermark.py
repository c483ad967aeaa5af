"""Whether the mark of generated speech is found again, and how often it is found where it is not.

    python -m bench.watermark

What the model says is looked for after each attack: MP3 at 64 kbit/s, other rates and back, a cut of 3 s at random, and
all of them one after another. So are clips of five sets of read speech that are marked here, every other one at
24 kHz. False alarms are counted on recordings of all shared sets and on cuts of 3 s of the longer ones, none of them
marked.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np

from bench import clips, report
from bench.speak import sentences
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
SAID, EACH, MOST_REAL = 100, 50, 400  # sentences; clips of a set
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


def recordings(each: int) -> Iterator[Clip]:
    """Clips that get the mark here."""
    for name in MARKED:
        long = [example for example in corpora.speech(name) if (example.seconds or 0.0) >= SHORTEST_SECONDS]
        for place, example in enumerate(spread(long, each)):
            yield load(str(example.audio), rate=24_000 if place % 2 else clips.RATE)


def generated(assistant: Any, count: int) -> Iterator[Clip]:
    """What the model says in its own voice, marked as all that it says, of 3 s and more."""
    for text in report.progress(sentences(4 * count), "said"):
        answer = assistant.run("speak", text=text, seed=0)
        if answer.audio.seconds >= SHORTEST_SECONDS and count:
            count -= 1
            yield Clip(answer.audio.samples, answer.audio.rate)
        if not count:
            return


def unmarked(most: int) -> Iterator[Clip]:
    """Real recordings, and a cut of 3 s from the middle of each that is twice as long."""
    for name in REAL:
        for example in report.progress(spread(list(corpora.speech(name)), most), name):
            clip = clips.read(example.audio)
            yield clip
            if clip.seconds >= 2 * CUT_SECONDS:
                yield clip.cut(CUT_SECONDS / 2, 1.5 * CUT_SECONDS)


def found_again(name: str, marked: Sequence[Clip]) -> tuple[list[list[Any]], list[dict[str, Any]]]:
    """A row of the table for each attack, and the answer for each clip and attack."""
    answers = []
    by_attack: dict[str, list[Detection]] = {}
    for seed, clip in enumerate(report.progress(marked, name)):
        for attack, changed in attacked(clip, seed).items():
            found = detect(changed)
            by_attack.setdefault(attack, []).append(found)
            answers.append({"set": name, "attack": attack, "seconds": clip.seconds, "score": found.score})
    rows = []
    for attack, each in by_attack.items():
        scores = np.array([found.score for found in each])
        share = sum(found.is_marked for found in each) / len(each)
        rows.append([name, attack, len(each), share, float(np.median(scores)), float(scores.min())])
    return rows, answers


def main(arguments: Sequence[str] | None = None) -> int:
    options = report.parser(__doc__, "watermark").parse_args(arguments)
    plain = list(recordings(options.limit or EACH))
    marked = [mark(clip) for clip in plain]
    whole, segmental = np.array([ratios(*pair) for pair in zip(plain, marked, strict=True)]).T
    said = list(generated(report.assistant(options), options.limit or SAID))
    rows, answers, bars = [], [], []
    for name, sounds in (("generated", said), ("recordings", marked)):
        found, these = found_again(name, sounds)
        rows += found
        answers += these
        held = found[: -len(SHORTER_SECONDS)]
        bars += [report.Bar(f"{name}, {row[1]}: found", row[3], 0.99, at_most=False) for row in held]
    heard = [detect(clip) for clip in unmarked(options.limit or MOST_REAL)]
    others = [found.score for found in heard]
    alarms = sum(found.is_marked for found in heard)
    bars.append(report.Bar("false alarms", alarms / len(heard), 0.001))
    report.finish(
        "watermark",
        options,
        ("set", "attack", "clips", "share found", "median score", "lowest score"),
        [*rows, ["real", "no mark", len(heard), alarms / len(heard), float(np.median(others)), min(others)]],
        bars,
        answers,
        clips={"generated": len(said), "recordings": len(marked)},
        found={f"{row[0]}, {row[1]}": row[3] for row in rows},
        false_alarms={"count": alarms, "of": len(heard), "highest_score": max(others)},
        snr_db={"whole": float(whole.mean()), "lowest": float(whole.min()), "segmental": float(segmental.mean())},
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
