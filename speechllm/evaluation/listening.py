"""A page to hear what was measured: a folder with `index.html`, a recording and a spectrogram for each row.

The page needs no network and no script; the folder can be copied or served as it is. Texts and names are shown as
they are, never taken as HTML.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import soundfile
from rapidfuzz.distance import Levenshtein

from speechllm.audio.clip import Clip
from speechllm.audio.features import log_mel
from speechllm.errors import DataError
from speechllm.evaluation import metrics
from speechllm.evaluation.spoken import FIGURES, Report, Spoken, formatted

MOST_COLUMNS = 1200  # of a spectrogram; longer clips are averaged
DECADES = 1.5  # of power that are drawn, in units of `log_mel` (one is 40 dB)
# Dark to bright, each step as much lighter as the last: quiet to loud.
_COLOURS = np.array([(8, 6, 24), (60, 15, 110), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)])

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --soft: #5f6068; --line: #d9d9e0; --page: #fbfbfd; --card: #fff;
        --wrong: #ffd9d6; --missing: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ee; --soft: #a3a4ae; --line: #3a3b44; --page: #15161a; --card: #1e1f25; --wrong: #6b2a2a;
          --missing: #ff9d94; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 56rem; background: var(--page); color: var(--ink);
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: .5rem 0 1rem; }
table { border-collapse: collapse; width: 100%; margin-bottom: 1.5rem; font-size: .9rem; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .5rem .25rem 0; text-align: left; font-weight: 400; }
td.value { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding-right: 1rem; }
td.note, .numbers, .label { color: var(--soft); }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem;
          margin: 0 0 1rem; }
h2 { font-size: 1rem; margin: 0; }
p { margin: .25rem 0; }
.label { display: inline-block; min-width: 4.5rem; font-size: .85rem; }
.numbers { font-size: .85rem; font-variant-numeric: tabular-nums; }
img { display: block; width: 100%; height: 7rem; border-radius: .25rem; margin: .5rem 0; }
audio { display: block; width: 100%; margin: .25rem 0; }
mark { background: var(--wrong); color: inherit; border-radius: .2rem; padding: 0 .15rem; }
del, .fault { color: var(--missing); }
"""


def write(report: Report, folder: str | Path, title: str = "speak") -> Path:
    """Write the page of a report and give its path; files of an earlier page are written over.

    Raises DataError when the folder or a file in it cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        voices: dict[int, str] = {}  # files of the voice prompts, by the clip: rows may share one
        articles = []
        for number, each in enumerate(report.samples, start=1):
            if each.prompt is not None and id(each.prompt) not in voices:
                voices[id(each.prompt)] = _write_sound(folder / f"voice-{number:04}.wav", each.prompt)
            if each.audio is not None:
                _write_sound(folder / f"{number:04}.wav", each.audio)
                (folder / f"{number:04}.png").write_bytes(png(spectrogram(each.audio)))
            articles.append(_article(number, each, voices.get(id(each.prompt))))
        page = folder / "index.html"
        page.write_text(_page(title, report, articles), encoding="utf-8")
    except (OSError, soundfile.LibsndfileError) as error:
        raise DataError(f"cannot write the page into {folder}: {error}") from error
    return page


def _write_sound(path: Path, clip: Clip) -> str:
    soundfile.write(path, clip.samples.clip(-1.0, 1.0), clip.rate, subtype="PCM_16")
    return path.name


def _page(title: str, report: Report, articles: Sequence[str]) -> str:
    rows = [
        f'<tr><th scope="row">{escape(name.replace("_", " "))}</th><td class="value">{formatted(value)}</td>'
        f'<td class="note">{escape(FIGURES[name])}</td></tr>'
        for name, value in report.figures().items()
    ]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            # No text of a row can become a script, even where a browser reads HTML otherwise than we escape it.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"script-src 'none'; object-src 'none'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>",
            f"<table>\n{chr(10).join(rows)}\n</table>",
            *articles,
            "</body>\n</html>\n",
        ]
    )


def _article(number: int, each: Spoken, voice: str | None) -> str:
    row, name = each.row, f"{number:04}"
    speaker = f" · {row.speaker}" if row.speaker else ""
    text = f'lang="{escape(row.lang)}" dir="auto"'
    parts = [f"<article>\n<h2>{number}{escape(speaker)}{_faults(each)}</h2>"]
    if each.audio is not None:
        parts.append(f'<audio controls preload="metadata" src="{name}.wav"></audio>')
        parts.append(f'<img src="{name}.png" alt="spectrogram, {each.seconds:.1f} s, up to 8 kHz" loading="lazy">')
    parts.append(f'<p><span class="label">wanted</span> <span {text}>{escape(row.text)}</span></p>')
    if each.error is None:
        read = _marked(each) or '<span class="fault">nothing</span>'
        parts.append(f'<p><span class="label">was read</span> <span {text}>{read}</span></p>')
        parts.append(f'<p class="numbers">{escape(_numbers(each))}</p>')
    else:
        parts.append(f'<p class="fault">{escape(each.error)}</p>')
    if voice:
        parts.append(
            '<p><span class="label">the voice</span></p>'
            f'<audio controls preload="metadata" src="{escape(voice)}"></audio>'
        )  # fmt: skip
    return "\n".join([*parts, "</article>"])


def _faults(each: Spoken) -> str:
    found = {"silent": each.is_silent, "did not end in time": each.is_runaway, "no answer": each.error is not None}
    said = ", ".join(name for name, is_so in found.items() if is_so)
    return f' <span class="fault">{said}</span>' if said else ""


def _numbers(each: Spoken) -> str:
    """One line of figures, of those that were measured."""
    found = {
        "WER": f"{each.wer:.1f} %",
        "CER": f"{each.cer:.1f} %",
        "similarity": formatted(each.similarity),
        "DNSMOS": formatted(each.dnsmos),
        "seconds": formatted(each.seconds),
        "of expected": formatted(each.duration_ratio),
        "first sound after": formatted(each.first_audio),
    }
    return " · ".join(f"{name} {value}" for name, value in found.items() if value != "-")


def _marked(each: Spoken) -> str:
    """HTML of what was read: wrong words marked, missing ones struck through."""
    tags = {"right": "{}", "wrong": "<mark>{}</mark>", "missing": "<del>{}</del>"}
    pieces = compared(each.row.text, each.read, each.row.lang)
    return " ".join(tags[kind].format(escape(word)) for kind, word in pieces)


def compared(wanted: str, read: str, lang: str) -> list[tuple[str, str]]:
    """Words as "right" or "wrong" of what was read, and "missing" of what was wanted, in the order of speech.

    Words are compared as the error rate does it, but one by one; texts that are equal as a whole have only right
    words, though a number is written otherwise.
    """
    ours, theirs = read.split(), wanted.split()
    if metrics.normalised(read, lang) == metrics.normalised(wanted, lang):
        return [("right", word) for word in ours]
    ours, theirs = ([(metrics.normalised(word, lang), word) for word in words] for words in (ours, theirs))
    theirs = [pair for pair in theirs if pair[0]]  # a mark that stands alone is not said
    edits = Levenshtein.opcodes([key for key, _ in theirs], [key for key, _ in ours])
    pieces: list[tuple[str, str]] = []
    for edit in edits:
        if edit.tag in ("delete", "replace"):
            pieces += [("missing", word) for _, word in theirs[edit.src_start : edit.src_end]]
        heard = ours[edit.dest_start : edit.dest_end]
        pieces += [("right" if edit.tag == "equal" or not key else "wrong", word) for key, word in heard]
    return pieces


def spectrogram(clip: Clip) -> np.ndarray:
    """Picture (80, T) uint8 of a clip's log-mel power: low below, 0 quiet, 255 the loudest; T is at most 1200."""
    power = log_mel(clip).numpy().T[::-1]  # (80, T)
    if not power.size or power.max() == power.min():
        return np.zeros((80, max(1, min(power.shape[1], MOST_COLUMNS))), np.uint8)
    if power.shape[1] > MOST_COLUMNS:
        edges = np.linspace(0, power.shape[1], MOST_COLUMNS, endpoint=False).astype(int)
        power = np.add.reduceat(power, edges, axis=1) / np.diff([*edges, power.shape[1]])
    return np.round(255 * ((power - power.max()) / DECADES + 1).clip(0, 1)).astype(np.uint8)


def png(picture: np.ndarray) -> bytes:
    """A PNG of levels (H, W) uint8, coloured from dark to bright (the PNG specification, §11; one filter, none)."""
    height, width = picture.shape
    levels = np.linspace(0, len(_COLOURS) - 1, 256)
    palette = np.stack([np.interp(levels, range(len(_COLOURS)), channel) for channel in _COLOURS.T], 1)
    lines = np.pad(picture, ((0, 0), (1, 0)))  # the filter's number stands before each line
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette.round().astype(np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
