"""What the pocket codec keeps of speech, at 1, 2, 4 and 8 codebooks.

    python -m bench.codec

Each clip of LibriSpeech test-other is encoded once and decoded with so many codebooks. The word error rate is that of
Whisper base on the sound that comes out (over its text normaliser), beside its own on the original; similarity is the
cosine of the speaker embeddings of original and copy; DNSMOS is the overall score. The speed is that of encoding and
decoding all codebooks, in times real time.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from bench import clips, report
from speechllm import codecs
from speechllm.audio.clip import Clip
from speechllm.codecs.base import trimmed
from speechllm.evaluation import metrics
from speechllm.evaluation.dnsmos import DNSMOS
from speechllm.evaluation.speakers import SpeakerEncoder
from speechllm.evaluation.whisper_base import WhisperBase

SET = "librispeech_test_other"
DEPTHS = (8, 4, 2, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = report.parser(__doc__, "codec", model=False)
    parser.add_argument("--codec", default=codecs.POCKET, help="name, folder or hub id (default: pocket)")
    options = parser.parse_args(arguments)
    report.use_threads(options.threads)
    codec, peer = codecs.load(options.codec, "cpu"), WhisperBase(options.threads)
    speaker, quality = SpeakerEncoder.load(), DNSMOS()
    examples = clips.spoken(SET, options.limit)
    originals = [clips.read(example.audio) for example in examples]
    report.timed(codec.decode, codec.encode(originals[0]))  # warm
    work, copies = 0.0, {depth: [] for depth in DEPTHS if depth <= codec.codebooks}
    for clip in report.progress(originals, "copies"):
        codes, seconds = report.timed(codec.encode, clip)
        work += seconds
        for depth, made in copies.items():
            sound, seconds = report.timed(codec.decode, codes[:depth])
            work += seconds if depth == codec.codebooks else 0.0
            made.append(trimmed(sound, len(clip.samples)))
    embeddings = [speaker.embed(clip) for clip in originals]

    def row(name: str, heard: list[Clip]) -> list:
        texts = [peer.transcribe(clip.resampled(clips.RATE).samples, "en") for clip in report.progress(heard, name)]
        results = [
            metrics.Result(text, (example.text or "",), "en") for text, example in zip(texts, examples, strict=True)
        ]
        alike = [float(known @ speaker.embed(clip)) for known, clip in zip(embeddings, heard, strict=True)]
        scores = [quality.score(clip).overall for clip in heard]
        return [name, len(heard), metrics.wer(results).value, mean(alike), mean(scores)]

    original = row("original", originals)
    rows = [original, *(row(f"{depth} codebooks", made) for depth, made in copies.items())]
    best, speed = rows[1], sum(clip.seconds for clip in originals) / work
    bars = [
        report.Bar("WER of Whisper base, points above the original's", best[2] - original[2], 4.0),
        report.Bar("speaker similarity to the original", best[3], 0.85, at_most=False),
        report.Bar("DNSMOS lost", original[4] - best[4], 0.3),
        report.Bar("encode and decode, times real time", speed, 20.0, at_most=False),
    ]
    report.finish(
        "codec", options, ("sound", "clips", "WER", "similarity", "DNSMOS"), rows, bars, times_real_time=speed
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
