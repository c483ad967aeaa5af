"""How the model speaks: in its own voice, and in voices that no training heard.

    python -m bench.speak

100 English sentences of the evaluation split, said in the default voice; then the same sentences, each in the voice of
a prompt of about three seconds from LibriSpeech test-other and test-clean (cut where it is quietest, its words not
given). The word error rate is that of Whisper base on what was said; similarity is the cosine of speaker embeddings,
beside that of two recordings of one speaker and that of different speakers; DNSMOS is the overall score. Whole runs
leave listening pages in `out/`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np

from bench import clips, report
from speechllm.audio.clip import Clip
from speechllm.data import corpora
from speechllm.data.corpora import Example
from speechllm.evaluation import listening, spoken
from speechllm.evaluation.spoken_commands import load_instruments, sayer

SETS = ("librispeech_test_other", "librispeech_test_clean")
COUNT, WORDS = 100, (4, 20)  # of sentences; of words in one, least and most
PROMPT_SECONDS = (2.5, 4.0)  # between which a prompt is cut
PAUSE_SECONDS = 0.02
DEFAULT, VOICES = "default voice", "voices"
SHOWN = (
    "rows", "wer", "cer", "similarity", "similarity_same_speaker", "similarity_other_speaker", "dnsmos",
    "dnsmos_prompt", "duration_ratio", "real_time_factor", "first_audio", "silent", "runaway", "errors",
)  # fmt: skip


def sentences(count: int) -> list[str]:
    """Sentences of the evaluation split, spread evenly over it."""
    least, most = WORDS
    rows = [row["text"] for row in corpora.texts("sentences/eval") if row["lang"] == "en"]
    rows = [text for text in rows if least <= len(text.split()) <= most]
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def prompt(clip: Clip) -> Clip:
    """The beginning of a clip, cut in the middle of its quietest 20 ms between 2.5 and 4 s."""
    least, most = (round(seconds * clip.rate) for seconds in PROMPT_SECONDS)
    width = round(PAUSE_SECONDS * clip.rate)
    power = np.square(clip.samples[least - width // 2 : most + width // 2], dtype=np.float64)
    energy = np.convolve(power, np.ones(width), "valid")
    return Clip(clip.samples[: least + int(energy.argmin())], clip.rate)


def voices(examples: Sequence[Example]) -> Iterator[tuple[Example, Example | None]]:
    """Clips long enough for a prompt, the speakers taking turns, each with another clip of its speaker if there is one.

    The other clip is the longest: it tells most of the voice.
    """
    speakers: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.speaker:
            speakers[example.speaker].append(example)
    least = PROMPT_SECONDS[0] + PAUSE_SECONDS
    turns = zip_longest(*([one for one in each if (one.seconds or 0.0) >= least] for each in speakers.values()))
    for example in chain.from_iterable(turns):
        if example is not None:
            others = [one for one in speakers[example.speaker or ""] if one is not example]
            yield example, max(others, key=lambda one: one.seconds or 0.0, default=None)


def rows_in_voices(count: int) -> list[spoken.SpokenRow]:
    """Sentences, each in a voice of its own."""
    examples = [example for name in SETS for example in corpora.speech(name, "eval")]
    return [
        spoken.SpokenRow(
            text, voice=prompt(clips.read(example.audio)), reference=other.audio if other else None,
            speaker=example.speaker,
        )
        for text, (example, other) in zip(sentences(count), islice(voices(examples), count), strict=False)
    ]  # fmt: skip


def bars(figures: dict[str, dict]) -> list[report.Bar]:
    """What the project holds itself to."""
    gone = sum(each["runaway"] + each["silent"] for each in figures.values())
    found = [report.Bar("runaways and silences", gone, 2)]
    if own := figures.get(DEFAULT):
        found += [
            report.Bar("WER, default voice", own["wer"], 15.0),
            report.Bar("seconds to the first sound", own["first_audio"], 1.5),
            report.Bar("real-time factor", own["real_time_factor"], 1.0),
        ]
    if lent := figures.get(VOICES):
        found += [
            report.Bar("WER, voices never heard", lent["wer"], 25.0),
            report.Bar("similarity, voices never heard", lent["similarity"] or 0.0, 0.70, at_most=False),
        ]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "speak")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing (default: 0)")
    parser.add_argument("--pages", type=Path, help="folder of the listening pages (default: out, if no --limit)")
    parser.add_argument("--only", choices=(DEFAULT, VOICES), help="the one set; with --json, for a file of its own")
    options = parser.parse_args(arguments)
    count = min(COUNT, options.limit or COUNT)
    sets = {DEFAULT: [spoken.SpokenRow(text) for text in sentences(count)], VOICES: rows_in_voices(count)}
    if options.only:
        sets = {options.only: sets[options.only]}
    say, instruments = (
        sayer(report.assistant(options), consent=True, seed=options.seed),
        load_instruments(options.threads),
    )
    say(next(iter(sets.values()))[0])  # warm
    pages = options.pages or (None if options.limit else Path("out"))
    rows, answers, figures_of = [], [], dict[str, dict]()
    for name, chosen in sets.items():
        found = spoken.measure(say, chosen, instruments, progress=True)
        figures = figures_of[name] = found.figures()
        rows.append([name, *(figures[each] for each in SHOWN)])
        answers += [{"set": name, **each.saved()} for each in found.samples]
        if pages:
            page = listening.write(found, pages / f"listening-{name.replace(' ', '-')}", f"Speaking: {name}")
            print(f"listen: {page}")
    report.finish("speak", options, ("speaking", *SHOWN), rows, bars(figures_of), answers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
