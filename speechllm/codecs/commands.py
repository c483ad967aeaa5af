"""The command `speechllm codec`: a recording to a file of codes, and a file of codes to sound.

    speechllm codec encode talk.ogg -o talk.safetensors --codec facebook/encodec_24khz --bandwidth 6
    speechllm codec decode talk.safetensors -o talk.wav --codebooks 2

Nothing heavy is imported before the command line is read.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechllm.commands import UsageError

if TYPE_CHECKING:
    pass

SAYS = "turn a recording into codes of a neural codec, and codes into sound"
EXAMPLES = """\
examples:
  speechllm codec encode talk.ogg -o talk.safetensors
  speechllm codec encode talk.ogg -o talk.safetensors --codec facebook/encodec_24khz --bandwidth 6
  speechllm codec decode talk.safetensors -o talk.wav
  speechllm codec decode talk.safetensors -o coarse.wav --codebooks 2

A codec is pocket, a hub id of EnCodec, Mimi or DAC (such as kyutai/mimi), or a folder with one.
"""
SOUND = (".wav", ".flac", ".ogg")  # what `decode` writes, by the name of its file


def options(parser: argparse.ArgumentParser, **form: Any) -> None:
    """Give the parser of `codec` its two actions; form: what every parser of the command line is made with."""
    actions = parser.add_subparsers(dest="action", metavar="encode|decode", required=True)
    encode_says, decode_says = "write the codes of a recording", "write the sound of codes"
    made = actions.add_parser("encode", help=encode_says, description=f"Codec: {encode_says}.", **form)
    made.add_argument("audio", metavar="AUDIO", help="the recording")
    made.add_argument("-o", "--out", metavar="CODES.safetensors", type=Path, required=True, help="the file to write")
    made.add_argument("--codec", metavar="NAME|FOLDER", default="pocket", help="the codec (default: pocket)")
    made.add_argument("--bandwidth", metavar="KBPS", type=float, help="EnCodec: kbit/s (default: the most it has)")
    made.add_argument(
        "--codebooks", metavar="K", type=_positive, help="other codecs: how many codebooks (default: all)"
    )
    made.set_defaults(handler=encode)
    made = actions.add_parser("decode", help=decode_says, description=f"Codec: {decode_says}.", **form)
    made.add_argument("codes", metavar="CODES", type=Path, help="a file that `codec encode` wrote")
    made.add_argument("-o", "--out", metavar="FILE.wav", type=Path, required=True, help="the file to write")
    made.add_argument("--codebooks", metavar="K", type=_positive, help="use the first K codebooks (default: all)")
    made.add_argument("--codec", metavar="NAME|FOLDER", help="the codec (default: the one that the file names)")
    made.set_defaults(handler=decode)


def encode(options: argparse.Namespace) -> int:
    """Write the codes of a recording and say in one line what they are."""
    from speechllm import codecs
    from speechllm.audio import decode as audio
    from speechllm.codecs import files

    _check_out(options.out)
    next(audio.stream(options.audio))  # a broken recording is known before a codec loads
    chosen = {name: getattr(options, name) for name in ("bandwidth", "codebooks")}
    codec = codecs.load(
        options.codec, options.device, **{name: each for name, each in chosen.items() if each is not None}
    )
    clip = audio.load(options.audio, rate=codec.sample_rate)
    codes = files.Codes.of(codec, codec.encode(clip), len(clip.samples))
    files.save(codes, options.out)
    print(
        f"{options.out}: {codes.seconds:.2f} s, {codes.codebooks} codebooks of {codes.codebook_size}, "
        f"{codes.values.shape[1]} frames at {codes.frame_rate:g} Hz, {codec.name}"
    )
    return 0


def decode(options: argparse.Namespace) -> int:
    """Write the sound of a file of codes and say in one line what it is."""
    import soundfile

    from speechllm import codecs
    from speechllm.codecs import KNOWN, files
    from speechllm.codecs.base import trimmed

    _check_out(options.out)
    if options.out.suffix.lower() not in SOUND:
        raise UsageError(f"-o {options.out}: the file's name ends in {', '.join(SOUND)}")
    codes = files.load(options.codes)
    if options.codebooks is not None and options.codebooks > codes.codebooks:
        raise UsageError(f"--codebooks {options.codebooks}: {options.codes} has {codes.codebooks}")
    name = options.codec or codes.codec
    if options.codec is None and name not in KNOWN:  # a file must not choose what is fetched
        raise UsageError(f"{options.codes} was made with {name!r}: give it as --codec if you trust it")
    codec = codecs.load(name, options.device)
    codes.check(codec)
    clip = trimmed(codec.decode(codes.values[: options.codebooks]), codes.samples)
    try:
        soundfile.write(options.out, clip.samples.clip(-1.0, 1.0), clip.rate)
    except (OSError, RuntimeError) as error:
        raise OSError(f"{options.out} cannot be written: {error}") from error
    used = options.codebooks or codes.codebooks
    print(f"{options.out}: {clip.seconds:.2f} s at {clip.rate} Hz from {used} codebooks, {codec.name}")
    return 0


def _check_out(out: Path) -> None:
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise UsageError(f"-o {out}: not a file in an existing folder")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
