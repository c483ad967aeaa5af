"""Error rates of `transcribe` beside Whisper base in the same run, the first pass alone beside, and their
speed.

    python -m bench.transcribe              # the language given
    python -m bench.transcribe --detect     # the language found by both
    python -m bench.transcribe --check      # the LLM checks each reading

Word error rate on four English evaluation sets and character error rate on Common Voice 6.1 in seven
languages, over Whisper's text normalisers; every clip goes through all systems before the next one does. The
real-time factor is the seconds of work per second of sound over the whole set, loading not counted. The peer
is faster-whisper base, int8, greedy, on 30-second windows. About half an hour on two cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import clips, report
from speechllm.audio.clip import Clip
from speechllm.data.corpora import Example
from speechllm.evaluation import metrics
from speechllm.evaluation.whisper_base import WhisperBase

ENGLISH = ("librispeech_test_other", "librispeech_test_clean", "common_voice_v1_en", "common_voice_later_en")
MANY = "common_voice_multi"
LANGS = ("de", "es", "fr", "it", "ru", "cs", "nl")
OURS, FIRST, PEER = "pocket", "first pass", "whisper base"
System = Callable[[Clip, str | None], str]


@dataclass
class Run:
    """One set through all systems."""

    name: str
    lang: str
    examples: list[Example]
    texts: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of work
    seconds_of_audio: float = 0.0

    def results(self, system: str) -> list[metrics.Result]:
        pairs = zip(self.texts[system], self.examples, strict=True)
        return [metrics.Result(text, (example.text or "",), self.lang) for text, example in pairs]

    def error_rate(self, system: str) -> float:
        """Word error rate for English, character error rate elsewhere, in %."""
        measure = metrics.wer if self.lang == "en" else metrics.cer
        return measure(self.results(system)).value

    def real_time_factor(self, system: str) -> float:
        return self.seconds[system] / self.seconds_of_audio


def systems(options) -> dict[str, System]:
    """Loaded systems by name: a clip and its language, or None, to a text."""
    assistant, peer = report.assistant(options), WhisperBase(options.threads)

    def given(lang: str | None) -> dict[str, str]:
        return {"language": lang} if lang else {}

    check = options.check or None

    return {
        OURS: lambda clip, lang: assistant.run("transcribe", audio=clip, check=check, **given(lang)).text,
        FIRST: lambda clip, lang: assistant.run("transcribe", audio=clip, reader="ctc", **given(lang)).text,
        PEER: lambda clip, lang: peer.transcribe(clip.samples, lang),
    }


def measure(run: Run, heard_by: dict[str, System], detect: bool) -> None:
    """Put every clip of a set through every system, taking turns in who comes first."""
    names = list(heard_by)
    run.texts, run.seconds = {name: [] for name in names}, dict.fromkeys(names, 0.0)
    for number, example in enumerate(report.progress(run.examples, f"{run.name} {run.lang}")):
        clip = clips.read(example.audio)
        run.seconds_of_audio += clip.seconds
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]
            text, seconds = report.timed(heard_by[name], clip, None if detect else run.lang)
            run.texts[name].append(text)
            run.seconds[name] += seconds


def bars(runs: Sequence[Run]) -> list[report.Bar]:
    """What the error rates and the speed are held to, for the sets that were run."""
    found = []
    for run in runs:
        if run.name in ("librispeech_test_other", "common_voice_v1_en"):
            peer = run.error_rate(PEER)
            found.append(report.Bar(f"WER {run.name}, against Whisper base + 1", run.error_rate(OURS), peer + 1))
            found.append(report.Bar(f"WER {run.name}, first pass alone", run.error_rate(FIRST), 45.0))
    if others := [run for run in runs if run.lang != "en"]:
        limit = 1.1 * _mean(others, PEER)
        found.append(report.Bar("mean CER of other languages, against 1.1 x Whisper base", _mean(others, OURS), limit))
    share = _work(runs, OURS) / _work(runs, PEER)
    return [*found, report.Bar("time of all sets, as a share of Whisper base's", share, 0.6)]


def _mean(runs: Sequence[Run], system: str) -> float:
    return sum(run.error_rate(system) for run in runs) / len(runs)


def _work(runs: Sequence[Run], system: str) -> float:
    return sum(run.seconds[system] for run in runs)


def table(runs: Sequence[Run]) -> list[list]:
    """A row for each set, then the mean of the languages and the speed over everything."""
    order = (OURS, FIRST, PEER)
    rows: list[list] = []
    for run in runs:
        rates = [run.error_rate(system) for system in order]
        factors = [run.real_time_factor(system) for system in (OURS, PEER)]
        kind = "WER" if run.lang == "en" else "CER"
        rows.append([f"{run.name} {run.lang}", len(run.examples), kind, *rates, *factors])
    if others := [run for run in runs if run.lang != "en"]:
        count = sum(len(run.examples) for run in others)
        rows.append([f"{MANY} mean", count, "CER", *(_mean(others, system) for system in order), None, None])
    sound, count = sum(run.seconds_of_audio for run in runs), sum(len(run.examples) for run in runs)
    return [
        *rows,
        ["all", count, "", None, None, None, *(_work(runs, system) / sound for system in (OURS, PEER))],
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "transcribe")
    parser.add_argument("--check", action="store_true", help="let the LLM check the reading, whatever the model says")
    parser.add_argument("--detect", action="store_true", help="do not tell the systems which language is spoken")
    parser.add_argument("--sets", nargs="*", choices=(*ENGLISH, MANY), default=[*ENGLISH, MANY])
    options = parser.parse_args(arguments)
    runs = [Run(name, "en", clips.spoken(name, options.limit)) for name in options.sets if name != MANY]
    if MANY in options.sets:
        runs += [Run(MANY, lang, clips.spoken(MANY, options.limit, lang)) for lang in LANGS]
    heard_by = systems(options)
    warm = clips.read(runs[0].examples[0].audio)
    for system in heard_by.values():
        system(warm, "en")
    for run in runs:
        measure(run, heard_by, options.detect)
    answers = [
        {"set": run.name, "lang": run.lang, "audio": str(example.audio), "text": example.text,
         **{name: texts[place] for name, texts in run.texts.items()}}
        for run in runs for place, example in enumerate(run.examples)
    ]  # fmt: skip
    head = ("set", "clips", "rate", OURS, FIRST, PEER, f"RTF {OURS}", f"RTF {PEER}")
    name = "transcribe" + "_language_found" * options.detect + "_checked" * options.check
    signatures = sorted({metrics.wer(run.results(OURS)).signature for run in runs})
    report.finish(name, options, head, table(runs), bars(runs), answers, signature=signatures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
