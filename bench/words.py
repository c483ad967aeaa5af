"""Times of words: are they inside the clip, in order, of a plausible length, and where the words are?

    python -m bench.words            # also draws bench/results/words_1.png to words_3.png

Three checks that need no truth: the share of words inside the clip, in order, and their median length. Two
that compare: of two clips joined by a second of silence, no word may lie in that second; and the median
distance of words' starts from those that Whisper base finds by its cross-attention (both systems' words are
matched by text). The drawings are spectrograms of three clips with the words over them, to be looked at.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench import clips, report
from speechllm.audio.clip import Clip
from speechllm.data.instruction_checks import plain
from speechllm.evaluation.whisper_base import WhisperBase
from speechllm.reading import Word

SETS = ("librispeech_test_other", "common_voice_v1_en")
DRAWN = (
    ("librispeech_test_clean", "en", 1),
    ("common_voice_later_en", "en", 0),
    ("common_voice_multi", "de", 0),
)
GAP = 1.0  # seconds of silence between two joined clips
SHORTEST, LONGEST = 0.12, 0.45  # seconds: where the median length of read words is plausible


def is_inside(word: Word, seconds: float) -> bool:
    return 0.0 <= word.start <= word.end <= seconds


def in_order(words: Sequence[Word]) -> int:
    """How many words begin no earlier than the word before them ended."""
    before = [0.0, *(word.end for word in words)]
    return sum(word.start >= end - 1e-6 for word, end in zip(words, before, strict=False))


def in_gap(words: Sequence[Word], start: float, end: float) -> int:
    """How many words have their middle between two times."""
    return sum(start < (word.start + word.end) / 2 < end for word in words)


def distances(ours: Sequence[Word], theirs: Sequence[Word]) -> list[float]:
    """Seconds between the starts of words that both systems read alike."""
    left, right = [plain(word.text) for word in ours], [plain(word.text) for word in theirs]
    blocks = difflib.SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return [
        abs(ours[block.a + place].start - theirs[block.b + place].start)
        for block in blocks
        for place in range(block.size)
    ]


def draw(clip: Clip, words: Sequence[Word], title: str, path: Path) -> None:
    """A log-mel spectrogram with each word over the frames it spans."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    from speechllm.audio.features import log_mel

    figure, axes = pyplot.subplots(figsize=(max(8.0, 2.2 * clip.seconds), 4.2), dpi=100)
    extent = (0.0, clip.seconds, 0.0, 80.0)
    axes.imshow(log_mel(clip).T.numpy(), origin="lower", aspect="auto", extent=extent, cmap="magma")
    for number, word in enumerate(words):
        axes.axvspan(word.start, word.end, color="white", alpha=0.08 if number % 2 else 0.18, linewidth=0)
        axes.axvline(word.start, color="white", linewidth=0.8)
        axes.axvline(word.end, color="white", linewidth=0.8, linestyle=":")
        axes.text(
            (word.start + word.end) / 2, 82 + 5 * (number % 3), word.text,
            ha="center", va="bottom", fontsize=9, clip_on=False, parse_math=False,
        )  # fmt: skip
    axes.set(xlabel="seconds", ylabel="mel band", xlim=(0.0, clip.seconds))
    axes.set_title(title, pad=44, fontsize=10, parse_math=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "words")
    parser.add_argument("--drawings", type=Path, default=report.RESULTS, help="folder of the spectrograms")
    options = parser.parse_args(arguments)
    count = options.limit or 40
    assistant, peer = report.assistant(options), WhisperBase(options.threads)
    rows: list[list] = []
    for name in SETS:
        rows.append([name, *_measured(assistant, peer, name, count)])
    for number, (name, lang, place) in enumerate(DRAWN, start=1):
        example = clips.spoken(name, lang=lang)[place]
        clip = clips.read(example.audio)
        answer = assistant.run("transcribe", audio=clip, language=lang)
        title = f"{example.audio.stem}: {answer.text}"
        draw(clip, answer.words, title, options.drawings / f"words_{number}.png")
    bars = []
    for name, words, inside, ordered, length, gap, _ in rows:
        bars += [
            report.Bar(f"{name}: words inside the clip, %", inside, 100.0, at_most=False),
            report.Bar(f"{name}: words in order, %", ordered, 100.0, at_most=False),
            report.Bar(f"{name}: median length, seconds", length, SHORTEST, at_most=False),
            report.Bar(f"{name}: median length, seconds", length, LONGEST),
            report.Bar(f"{name}: words in a second of silence, of {words}", gap, 0),
        ]
    head = ("set", "words", "inside %", "in order %", "median s", "in silence", "from Whisper's, median s")
    report.finish("words", options, head, rows, bars)
    return 0


def _measured(assistant, peer: WhisperBase, name: str, count: int) -> list:
    """Words, % inside, % in order, median length, words in a silence, median distance from the peer's."""
    words: list[Word] = []
    inside = ordered = gaps = 0
    apart: list[float] = []
    made = [clips.read(example.audio) for example in clips.spoken(name, count)]
    for number, clip in enumerate(report.progress(made, name)):
        found = assistant.run("transcribe", audio=clip, language="en").words
        words += found
        inside += sum(is_inside(word, clip.seconds) for word in found)
        ordered += in_order(found)
        apart += distances(found, peer.words(clip.samples, "en"))
        other = made[number - 1]
        if other is not clip and clip.seconds + GAP + other.seconds < 28:
            joined = assistant.run("transcribe", audio=clips.joined([clip, other], GAP), language="en").words
            gaps += in_gap(joined, clip.seconds, clip.seconds + GAP)
    total = max(len(words), 1)
    length = median(word.end - word.start for word in words) if words else 0.0
    return [
        len(words),
        100 * inside / total,
        100 * ordered / total,
        length,
        gaps,
        median(apart) if apart else None,
    ]


if __name__ == "__main__":
    raise SystemExit(main())
