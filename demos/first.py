"""Fetch what the model needs, ask about the bundled clips, say a sentence in two voices, then serve the page.

python -m demos.first              the answers and the speech, then the page's address (Ctrl+C ends it)
python -m demos.first --no-serve   without the page
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demos import SENTENCE, DemoClip, clips
from speechllm import devices
from speechllm.audio import mark
from speechllm.errors import SpeechLLMError

if TYPE_CHECKING:
    from speechllm.assistant import Answer, Assistant

# Who lends a voice: a reader of LibriVox, who has released the recording into the public domain.
VOICE = "en_clouds.ogg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 1 with one line when something cannot be had or answered."""
    options = _parser().parse_args(arguments)
    try:
        assistant = opened(options.model, options.device)
        failed = answer_all(assistant) + say_all(assistant, options.out)
        if options.no_serve or failed:
            return int(failed > 0)
        from demos import page

        page.serve(lambda: assistant, options.host, options.port)
    except SpeechLLMError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return 0


def opened(model: str, device: str | None) -> Assistant:
    """The assistant. What it stands on is fetched once, with bars, and kept in the user's cache.

    Raises SpeechLLMError when there is no such device, before anything is fetched.
    """
    if device is not None:
        devices.checked(device)
    print(f"Opening {model}. The first time, the weights it stands on are fetched.", flush=True)
    began = time.perf_counter()
    from speechllm.assistant import Assistant

    assistant = Assistant(model, device=device)
    print(f"Ready after {time.perf_counter() - began:.1f} s.\n", flush=True)
    return assistant


def answer_all(assistant: Assistant) -> int:
    """Ask each bundled clip and print its answer; gives how many failed."""
    failed, audio, spent = 0, 0.0, 0.0
    for clip in clips():
        try:
            answer = assistant.run(clip.task, audio=clip.audio, **clip.slots)
        except SpeechLLMError as error:
            print(f"{clip.audio.name}: {error}", file=sys.stderr)
            failed += 1
            continue
        print(shown(clip, answer), flush=True)
        audio, spent = audio + answer.seconds, spent + answer.timings["total"]
    print(f"{audio:.1f} s of audio answered in {spent:.1f} s.", flush=True)
    return failed


def shown(clip: DemoClip, answer: Answer) -> str:
    """One answer as lines of text."""
    slots = ", ".join(f"{name} {value}" for name, value in clip.slots.items() if value not in answer.prompt)
    lines = [
        f"{clip.task}: {clip.audio.name}, {answer.seconds:.1f} s" + (f" ({slots})" if slots else ""),
        f"  said     {clip.text}",
        f"  prompt   {answer.prompt}",
        f"  answer   {answer.text or '(nothing: no speech was heard)'}",
        f"  time     {answer.timings['total']:.2f} s",
    ]
    return "\n".join(lines) + "\n"


def say_all(assistant: Assistant, folder: Path) -> int:
    """Say a sentence in the model's own voice, then in that of a bundled clip; gives how many failed."""
    if assistant.aloud.folder is None:
        print("\nThis model has no voice: nothing is said aloud.", flush=True)
        return 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpeechLLMError(f"--out {folder}: cannot be a folder ({error.strerror or error})") from error
    lent = next(clip for clip in clips() if clip.audio.name == VOICE)
    given = {"voice": lent.audio, "voice_text": lent.text, "consent": True}
    whose = f"that of the speaker of {VOICE}, who released the recording into the public domain"
    print("", flush=True)
    return _say(assistant, "the model's own", folder / "own_voice.wav") + _say(
        assistant, whose, folder / f"voice_of_{lent.audio.stem}.wav", **given
    )


def _say(assistant: Assistant, whose: str, path: Path, **voice: Any) -> int:
    """Say the sentence to a file and print what came of it; 1 where it failed, else 0."""
    try:
        answer = assistant.run("speak", text=SENTENCE, language="English", **voice)
        assert answer.audio is not None
        answer.audio.save(path, answer.text)
    except SpeechLLMError as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return 1
    found = mark.detect(answer.audio)
    is_found = "found" if found.is_marked else "not found"
    lines = [
        f"speak: {SENTENCE}",
        f"  voice    {whose}",
        f"  written  {path}, {answer.audio.seconds:.1f} s",
        f"  time     {answer.timings['total']:.2f} s, the first sound after {answer.timings['first_audio']:.2f} s",
        f"  mark     {is_found} (score {found.score:.1f}, from {found.threshold:.1f} on it counts as generated speech)",
    ]
    print("\n".join(lines) + "\n", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demos.first", description="Answer the bundled clips, speak, then serve a page."
    )
    parser.add_argument("--no-serve", action="store_true", help="stop after the answers and the speech")
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for what is said (default: out/demo)"
    )
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `first` and `page` share."""
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to serve at (default: a free one from 7860 on)")
    parser.add_argument("--model", default="pocket", help="the model that answers (default: pocket)")
    parser.add_argument("--device", help="cpu, cuda ... (default: a GPU if there is one)")


if __name__ == "__main__":
    sys.exit(main())
