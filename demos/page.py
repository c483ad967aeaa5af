"""A page in the browser: record or upload, choose a task, read the answer while it is written.

    python -m demos.page --port 7860

Gradio serves it. Nothing is asked of any other machine: system fonts, no analytics, and a header that has the
browser refuse foreign addresses.
"""

from __future__ import annotations

import argparse
import html
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:
    import gradio as gr
except ImportError:
    raise SystemExit("page: this needs gradio: pip install 'speechllm[demo]'") from None

from demos import clips
from speechllm import devices, languages, tasks
from speechllm.audio.decode import AudioLimits
from speechllm.errors import SpeechLLMError
from speechllm.tasks import Slot, Task

if TYPE_CHECKING:
    from speechllm.assistant import Answer, Assistant, HeardSoFar
    from speechllm.reading import Word

PORTS = range(7860, 7880)  # tried in this order
OPENING = "Opening the model …"
LOCAL = ("127.0.0.1", "localhost", "::1")
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob:; "
    "frame-ancestors 'self'"
)
STYLE = """
.gradio-container { max-width: 980px !important; margin: 0 auto !important; }
#words { max-height: 16em; overflow-y: auto; line-height: 1.2; }
#words .word { display: inline-block; text-align: center; margin: 0 .35em .5em 0; }
#words .word small { display: block; font-size: .68em; opacity: .65; font-variant-numeric: tabular-nums; }
#note { min-height: 1.6em; }
"""


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


# What a press of the button does


def answered(
    opening: Opening, task: Task, audio: str | None, slots: dict[str, Any], tell: Callable[[str], None]
) -> Iterator[tuple[str, str, str]]:
    """Give (answer so far, words as HTML, note) while the recording is heard and the answer is written.

    Closing it ends the work after the stretch that is being heard.
    tell: called with a line that asks for what is missing; nothing is answered then.
    Raises gr.Error in one line, which the note then shows too.
    """
    if not audio:
        tell("Record something, upload a recording, or choose one of the clips below.")
        return
    missing = [name for name, slot in task.slots.items() if slot.required and not slots.get(name)]
    if missing:
        tell(f"Please fill in: {missing[0]} ({task.slots[missing[0]].description}).")
        return
    began = time.perf_counter()
    text, first, stream = "", None, None
    try:
        yield "", "", "Listening …" if opening.is_done else "The model is still being opened …"
        stream = opening.get().stream(task.name, audio=audio, **slots)
        for step in stream.steps():
            if isinstance(step, str):
                first = first or time.perf_counter() - began
                text += step
                yield text, "", f"Writing … {time.perf_counter() - began:.1f} s"
            else:
                yield text, "", heard(step)
        yield stream.answer.text, words_html(stream.answer.words), note(stream.answer, first)
    except Exception as error:
        said = "This could not be answered; the terminal says why."
        if isinstance(error, SpeechLLMError):  # the browser's recordings lie in folders that nobody needs to read of
            said = html.escape(str(error).replace(audio, Path(audio).name))
        else:
            traceback.print_exc()
        yield text, "", said
        raise gr.Error(said, print_exception=False) from error
    finally:
        if stream is not None:
            stream.close()


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
    parts.append(f"{answer.timings['total']:.2f} s for {answer.seconds:.1f} s of audio")
    if first_seconds is not None:
        parts.append(f"(the first words after {first_seconds:.2f} s)")
    if answer.finish == "length":
        parts.append("- cut at the longest answer that this task allows")
    if answer.finish == "loop":
        parts.append("- ended because the model only went on to say the same again")
    return " ".join(parts)


# The page


@dataclass(frozen=True)
class Parts:
    """What the page is made of."""

    state: gr.Markdown  # whether the model is there
    audio: gr.Audio
    task: gr.Radio
    about: gr.Markdown  # the task in a sentence
    groups: dict[str, gr.Column]  # by task
    fields: dict[tuple[str, str], gr.Dropdown | gr.Textbox]  # by task and slot
    go: gr.Button
    stop: gr.Button
    text: gr.Textbox
    words: gr.HTML
    note: gr.Markdown


def build(opening: Opening) -> gr.Blocks:
    """The page."""
    known = {name: tasks.load(name) for name in _in_order(tasks.names())}
    start = next(iter(known))
    with gr.Blocks(title="SpeechLLM", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# SpeechLLM\nIt hears, and does what a task says: on this machine, and nowhere else.")
        state = gr.Markdown(OPENING, visible=not opening.is_done)
        with gr.Row():
            with gr.Column(min_width=320):
                audio = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Recording", buttons=[])
                task = gr.Radio([(_title(name), name) for name in known], value=start, label="Task")
                about = gr.Markdown(known[start].description)
                groups, fields = _slot_fields(known, start)
                with gr.Row():
                    go = gr.Button("Answer", variant="primary", scale=3, min_width=120)
                    stop = gr.Button("Stop", scale=1, min_width=80)
            with gr.Column(min_width=320):
                text = gr.Textbox(label="Answer", lines=5, max_lines=20, interactive=False, buttons=["copy"])
                line = gr.Markdown(elem_id="note")
                words = gr.HTML(elem_id="words")
        _examples(audio, task, fields)
        parts = Parts(state, audio, task, about, groups, fields, go, stop, text, words, line)
        _connect(page, parts, opening, known)
    return page.queue(max_size=32, default_concurrency_limit=1)


def _connect(page: gr.Blocks, parts: Parts, opening: Opening, known: dict[str, Task]) -> None:
    """What happens when the page is opened, a task is chosen, a button is pressed."""

    def wait() -> Iterator[gr.Markdown]:
        if not opening.is_done:
            yield gr.Markdown(OPENING, visible=True)
        try:
            opening.get()
            yield gr.Markdown(visible=False)
        except SpeechLLMError as error:
            yield gr.Markdown(f"No model: {html.escape(str(error))}", visible=True)

    def choose(name: str) -> list[Any]:
        return [known[name].description, *(gr.Column(visible=each == name) for each in parts.groups)]

    def answer(audio: str | None, name: str, *values: Any) -> Iterator[tuple[str, str, str]]:
        own = zip(parts.fields, values, strict=True)
        slots = {slot: value for (of, slot), value in own if of == name and value not in (None, "", [])}
        yield from answered(opening, known[name], audio, slots, gr.Warning)

    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    page.load(wait, None, parts.state, concurrency_limit=None, **hidden)
    parts.task.change(choose, parts.task, [parts.about, *parts.groups.values()], queue=False, **hidden)
    texts = [field for field in parts.fields.values() if isinstance(field, gr.Textbox)]
    running = gr.on(
        [parts.go.click, *(field.submit for field in texts)],
        answer,
        [parts.audio, parts.task, *parts.fields.values()],
        [parts.text, parts.words, parts.note],
        concurrency_limit=1,
        show_progress="minimal",
        show_progress_on=[parts.note],
        api_name="answer",
    )
    parts.stop.click(lambda: "Stopped.", None, parts.note, cancels=[running], queue=False, **hidden)


def _in_order(names: Sequence[str]) -> list[str]:
    """Tasks in the order in which the demo asks them; others after them."""
    shown = list(dict.fromkeys(clip.task for clip in clips()))
    return [name for name in shown if name in names] + [name for name in names if name not in shown]


def _title(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def _slot_fields(known: dict[str, Task], start: str) -> tuple[dict[str, gr.Column], dict[tuple[str, str], Any]]:
    """A column for each task with a field for each of its slots; only the chosen task's column is seen."""
    groups, fields = {}, {}
    for name, task in known.items():
        with gr.Column(visible=name == start) as groups[name]:
            for slot_name, slot in task.slots.items():
                value = next((example[slot_name] for example in task.examples if slot_name in example), None)
                fields[name, slot_name] = _field(slot_name, slot, value if slot.required else None)
    return groups, fields


def _field(name: str, slot: Slot, value: Any) -> gr.Dropdown | gr.Textbox:
    said, _, more = (slot.description or name).partition("; ")
    label, info = _title(said) + ("" if slot.required else " (optional)"), more or None
    if slot.kind != "language":
        return gr.Textbox(value, label=label, info=info, lines=1, max_lines=4, max_length=1000)
    # A language that must be given is one to write in: those that every task was trained on.
    codes = languages.SPOKEN if slot.required else languages.NAMES
    choices = [languages.NAMES[code] for code in codes]
    if slot.several:
        return gr.Dropdown(choices, value=[], multiselect=True, label=label, info=info)
    if slot.required:
        return gr.Dropdown(choices, value=value, label=label, info=info)
    return gr.Dropdown([("found from the sound", ""), *choices], value="", label=label, info=info)


def _examples(audio: gr.Audio, task: gr.Radio, fields: dict[tuple[str, str], Any]) -> None:
    rows, labels = [], []
    for clip in clips():
        slots = {(clip.task, name): value for name, value in clip.slots.items()}
        values = []
        for key, field in fields.items():
            value = slots.get(key, field.value)
            is_list = isinstance(field, gr.Dropdown) and field.multiselect
            values.append([value] if is_list and isinstance(value, str) else value)
        rows.append([str(clip.audio), clip.task, *values])
        labels.append(f"{_title(clip.task)}: {clip.text}")
    gr.Examples(rows, [audio, task, *fields.values()], example_labels=labels, label="Clips to try")


# Serving it


class OwnAddressOnly:
    """ASGI middleware: every answer tells the browser to load nothing from other addresses."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message["headers"] = [*message.get("headers", []), policy]
            await send(message)

        await self.app(scope, receive, with_policy)


def launch(load: Callable[[], Assistant], host: str = "127.0.0.1", port: int | None = None) -> tuple[gr.Blocks, str]:
    """Serve the page in the background; gives it (`.close()` ends it) and its address.

    Raises SpeechLLMError when the port is taken or the host is not this machine's.
    """
    from gradio.themes import Soft
    from starlette.middleware import Middleware

    port = free_port(host, port)
    # what speaks to this machine itself must not go through a proxy
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOCAL]))
    page = build(Opening(load))
    sans, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    page.launch(
        server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False,
        inbrowser=False, ssr_mode=False, run_history=False, footer_links=[], enable_monitoring=False,
        show_error=False, max_file_size=AudioLimits().bytes, css=STYLE,
        theme=Soft(font=sans, font_mono=mono),
        app_kwargs={"middleware": [Middleware(OwnAddressOnly)]},
    )  # fmt: skip
    return page, f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"


def serve(load: Callable[[], Assistant], host: str = "127.0.0.1", port: int | None = None) -> None:
    """Serve the page and print its address, until Ctrl+C."""
    page, address = launch(load, host, port)
    print(f"\nThe page is at {address}   (Ctrl+C ends it)", flush=True)
    if host not in LOCAL:
        print("Other machines reach it too; browsers lend the microphone to https addresses only.", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:  # how a page that is served ends
        print(flush=True)
    finally:
        page.close(verbose=False)


def free_port(host: str, port: int | None) -> int:
    """The given port, or the first free one. Raises SpeechLLMError when it cannot be had."""
    said = ""
    for each in [port] if port is not None else [*PORTS, 0]:
        try:
            family = socket.getaddrinfo(host, each, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, each))
                return probe.getsockname()[1]
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or str(error)
    where = host if port is None else f"{host}, port {port}"
    raise SpeechLLMError(f"cannot serve at {where}: {said}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page; the model opens while the page is already there."""
    from demos.first import add_options

    parser = argparse.ArgumentParser(prog="python -m demos.page", description="Serve the page.")
    add_options(parser)
    options = parser.parse_args(arguments)

    def load() -> Assistant:
        from speechllm.assistant import Assistant

        return Assistant(options.model, device=options.device)

    try:
        if options.device is not None:  # to look for a GPU takes seconds, and the page comes first
            devices.checked(options.device)
        serve(load, options.host, options.port)
    except SpeechLLMError as error:
        print(f"page: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
