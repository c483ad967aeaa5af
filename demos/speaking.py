"""What a press of the button does: an answer that is read, and heard, while more of it is still being made.

A gr.Audio that streams would play it too, but has ffmpeg turn every piece into AAC: not every machine has that program,
nor every browser that format. Here the pieces are plain samples, and a little JavaScript queues them (Web Audio API).
"""

from __future__ import annotations

import base64
import html
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
import numpy as np

from speechllm import languages
from speechllm.answer import Answer, HeardSoFar
from speechllm.audio.clip import Clip
from speechllm.errors import ConsentError, SpeechLLMError
from speechllm.tasks import Task

if TYPE_CHECKING:
    from speechllm.assistant import Assistant
    from speechllm.reading import Word

PIECE_SECONDS = 0.5  # least that is sent at a time
MUTE = "This model has no voice: tasks that speak ({}) cannot be run with it."
END = "end"  # last line of what the player is fed

# It is fed all pieces so far, as the browser may pass over some of the steps; `taken` of them are queued. Where sound
# runs out before the next piece is there, it waits for twice as much as before: fewer gaps, and fewer words in two.
PLAYER = """
const LEAST = 0.5, MOST = 8, AHEAD = 0.05;  // seconds
const fresh = () => ({run: "", taken: 0, wanted: LEAST, until: 0, isStarved: false, waiting: []});
const player = {context: null, sources: new Set(), ...fresh()};
player.stop = () => {
  player.sources.forEach(source => source.stop());
  player.waiting = [];
  player.taken = Infinity;  // of this run, nothing more
};
player.begin = () => {  // in a click: only then does a browser let a page sound
  player.stop();
  player.context = player.context || new AudioContext();
  player.context.resume();
};
player.feed = text => {
  const [head, ...lines] = text.trim().split("\\n");
  const [run, rate] = head.split(" ");
  if (!run || !player.context) return;
  if (run !== player.run) Object.assign(player, fresh(), {run});
  const isEnded = lines[lines.length - 1] === "END";
  const pieces = isEnded ? lines.slice(0, -1) : lines;
  for (; player.taken < pieces.length; player.taken++) {
    const bytes = Uint8Array.from(atob(pieces[player.taken]), letter => letter.charCodeAt(0));
    const samples = Float32Array.from(new Int16Array(bytes.buffer), level => level / 32768);
    const buffer = player.context.createBuffer(1, samples.length, Number(rate));
    buffer.copyToChannel(samples, 0);
    player.waiting.push(buffer);
  }
  const now = player.context.currentTime;
  const held = player.waiting.reduce((seconds, buffer) => seconds + buffer.duration, 0);
  const isSilent = player.until < now;
  if (!held) return;
  if (isSilent && player.until && !player.isStarved) {
    player.wanted = Math.min(2 * player.wanted, MOST);
    player.isStarved = true;
  }
  if (isSilent && held < player.wanted && !isEnded) return;
  player.isStarved = false;
  for (const buffer of player.waiting.splice(0)) {
    const source = new AudioBufferSourceNode(player.context, {buffer});
    const start = Math.max(player.until, now + AHEAD);
    source.connect(player.context.destination);
    source.onended = () => player.sources.delete(source);
    source.start(start);
    player.sources.add(source);
    player.until = start + buffer.duration;
  }
};
window.speechPlayer = player;
""".replace('"END"', f'"{END}"')


class Live:
    """What the player is fed: a line with a name and the rate in Hz, one for each piece (16-bit, base64), and `END`."""

    def __init__(self) -> None:
        self.text, self.seconds = "", 0.0  # for the player; of sound so far
        self._run, self._rate, self._held = uuid.uuid4().hex, 0, np.zeros(0, np.float32)

    def add(self, clip: Clip) -> bool:
        """Take a clip; whether there is something new to send."""
        if not self.text:
            self._rate = clip.rate
            self.text = f"{self._run} {self._rate}\n"
        self.seconds += clip.seconds
        self._held = np.concatenate([self._held, clip.samples])
        is_enough = len(self._held) >= PIECE_SECONDS * self._rate
        if is_enough:
            self._flush()
        return is_enough

    def ended(self) -> str:
        """The whole text, what was held back included; empty where there was no sound."""
        self._flush()
        return self.text and f"{self.text}{END}\n"

    def _flush(self) -> None:
        if len(self._held):
            levels = np.round(self._held.clip(-1.0, 1.0) * 32767).astype("<i2")
            self.text += base64.b64encode(levels.tobytes()).decode() + "\n"
        self._held = self._held[:0]


@dataclass(frozen=True)
class SpeechParts:
    """What the page has for tasks that speak."""

    block: gr.Column
    voice: gr.Audio
    consent: gr.Checkbox


def voice_fields(is_seen: bool) -> SpeechParts:
    """Where one says whose voice it shall be."""
    with gr.Column(visible=is_seen) as block:
        voice = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Voice (optional)", buttons=[])
        consent = gr.Checkbox(
            label="Whoever speaks in this recording has agreed that their voice is copied",
            info="Give one to ten seconds of whoever shall speak. Without, the model speaks in a voice of its own.",
        )
    # consent is to one recording: another one needs it anew
    voice.change(None, None, consent, js="() => false", show_progress="hidden", api_visibility="private")
    return SpeechParts(block, voice, consent)


def players(is_seen: bool) -> tuple[gr.HTML, gr.Audio]:
    """What plays the sound while it is made, unseen, and the player of the whole."""
    live = gr.HTML("", html_template="", js_on_load=PLAYER, visible="hidden")
    live.change(None, live, None, js="text => { window.speechPlayer?.feed(text || ''); }", api_visibility="private")
    return live, gr.Audio(label="Spoken answer", interactive=False, buttons=["download"], visible=is_seen)


def options(task: Task, voice: str | None, consent: bool) -> dict[str, Any]:
    """The voice of a request, for tasks that speak; whether there is consent is for the assistant to judge."""
    return {"voice": voice, "consent": bool(consent)} if task.says and voice else {}


def saved(answer: Answer, folder: str) -> str | None:
    """A file with the sound of an answer, tagged as generated speech; None where there is no sound."""
    return None if answer.audio is None else str(answer.audio.save(Path(folder) / f"{answer.task}.wav", answer.text))


class Opening:
    """An assistant that opens in the background, while the page is already there."""

    def __init__(self, load: Callable[[], Assistant]) -> None:
        self._load, self._assistant, self._error = load, None, ""
        self._thread = threading.Thread(target=self._open, daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            self._assistant = self._load()
        except SpeechLLMError as error:
            self._error = str(error)
        except Exception:  # whatever it is, the page must say that no model came
            traceback.print_exc()
            self._error = "the model cannot be opened; the terminal says why"

    @property
    def is_done(self) -> bool:
        """Whether it is open, or failed."""
        return not self._thread.is_alive()

    def get(self) -> Assistant:
        """The assistant, waited for. Raises SpeechLLMError in one line when it could not be opened."""
        self._thread.join()
        if self._assistant is None:
            raise SpeechLLMError(self._error)
        return self._assistant


class Shown(NamedTuple):
    """What the page shows of an answer."""

    text: str = ""
    words: str = ""  # HTML
    note: str = ""
    live: str = ""  # sound for the player, as long as it is being made
    sound: str | None = None  # path of a file with all of it


def answered(
    opening: Opening,
    task: Task,
    audio: str | None,
    slots: dict[str, Any],
    tell: Callable[[str], None],
    voice: str | None = None,
    consent: bool = False,
) -> Iterator[Shown]:
    """Give what is there of the answer while the recording is heard and the answer is written and said.

    Closing it ends the work after the stretch that is being heard.
    tell: called with a line that asks for what is missing; nothing is answered then.
    Raises gr.Error in one line, which the note then shows too.
    """
    if said := lacking(task, audio, slots):
        tell(said)
        return
    began = time.perf_counter()
    shown, first, stream, live = Shown(), None, None, Live()
    try:
        yield Shown(note=_starting(task) if opening.is_done else "The model is still being opened …")
        given = slots if task.reads else {"audio": audio, **slots}
        stream = opening.get().stream(task.name, **given, **options(task, voice, consent))
        for step in stream.steps():
            spent = time.perf_counter() - began
            if isinstance(step, HeardSoFar):
                shown = shown._replace(note=heard(step))
            elif isinstance(step, str):
                first = first or spent
                shown = shown._replace(text=shown.text + step, note=f"Writing … {spent:.1f} s")
            elif live.add(step):
                shown = shown._replace(live=live.text, note=f"Speaking … {live.seconds:.1f} s, made in {spent:.1f} s")
            else:
                continue
            yield shown
        answer = stream.answer
        with tempfile.TemporaryDirectory() as folder:  # gradio takes a copy into a folder of its own
            sound = saved(answer, folder)
            yield Shown(answer.text, words_html(answer.words), note(answer, first), live.ended(), sound)
    except Exception as error:
        said = _told(error, audio, voice)
        yield shown._replace(note=said, live=live.ended())
        raise gr.Error(said, print_exception=False) from error
    finally:
        if stream is not None:
            stream.close()


def lacking(task: Task, audio: str | None, slots: dict[str, Any]) -> str:
    """A line that asks for what is missing; empty when nothing is."""
    if not audio and not task.reads:
        return "Record something, upload a recording, or choose one of the examples below."
    for name, slot in task.slots.items():
        if slot.required and not slots.get(name):
            return f"Please fill in: {name} ({slot.description})."
    return ""


def _starting(task: Task) -> str:
    return "Reading …" if task.reads else "Listening …"


def _told(error: Exception, *paths: str | None) -> str:
    """An error as a line for the page."""
    if not isinstance(error, SpeechLLMError):
        traceback.print_exception(error)
        return "This could not be answered; the terminal says why."
    said = str(error)
    for path in filter(None, paths):  # the browser's recordings lie in folders that nobody needs to read of
        said = said.replace(path, Path(path).name)
    if isinstance(error, ConsentError):
        said += ". On this page: tick the box below the recording of the voice"
    return html.escape(said)


def heard(so_far: HeardSoFar) -> str:
    """A line on how much of the recording is heard: "Listening … heard 2:05 of 5:00"."""
    done, total = (f"{int(s) // 60}:{int(s) % 60:02}" for s in (so_far.done, so_far.total or 0.0))
    return f"Listening … heard {done}" + (f" of {total}" if so_far.total else "")


def words_html(words: Sequence[Word]) -> str:
    """The words with the second at which each begins; fainter where the reader is less sure."""
    spans = ["<p>Heard, with the second at which each word begins:</p>"] if words else []
    for word in words:
        title = f"{word.start:.2f} to {word.end:.2f} s, sure to {word.confidence:.0%}"
        said, opacity = html.escape(word.text), f"{0.5 + 0.5 * word.confidence:.2f}"
        spans.append(
            f'<span class="word" style="opacity:{opacity}" title="{title}">{said}<small>{word.start:.2f}</small></span>'
        )
    return "\n".join(spans)


def note(answer: Answer, first_seconds: float | None) -> str:
    """A line on what was heard, how the answer ended and how long it took."""
    parts = []
    if answer.finish == "no speech":
        parts.append("No speech was heard.")
    if answer.language:
        parts.append(f"{languages.NAMES.get(answer.language, answer.language)}.")
    about = f" for {answer.seconds:.1f} s of audio" if answer.seconds else ""
    parts.append(f"{answer.timings['total']:.2f} s{about}")
    if first_seconds is not None:
        parts.append(f"(the first words after {first_seconds:.2f} s)")
    if answer.audio is not None:
        parts.append(
            f"- {answer.audio.seconds:.1f} s of speech (the first of it after {answer.timings['first_audio']:.2f} s)"
        )
    if answer.finish == "length":
        parts.append("- cut at the longest answer that can be given")
    if answer.finish == "loop":
        parts.append("- ended because the model only went on to say the same again")
    return " ".join(parts)
