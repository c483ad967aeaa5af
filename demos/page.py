"""A page in the browser: record, upload or write, choose a task, and read and hear the answer while it is made.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:
    import gradio as gr
except ImportError:
    raise SystemExit("page: this needs gradio: pip install 'speechllm[demo]'") from None

from demos import SENTENCE, clips, speaking
from demos.speaking import Opening, Shown, answered
from speechllm import devices, languages, tasks
from speechllm.audio.decode import AudioLimits
from speechllm.errors import SpeechLLMError
from speechllm.tasks import Task

if TYPE_CHECKING:
    from speechllm.assistant import Assistant

PORTS = range(7860, 7880)  # tried in this order
OPENING = "Opening the model …"
LONGEST_READ = 4000  # characters of a text that is read in place of a recording
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
    outputs: list[Any]  # one for each field of `Shown`
    speech: speaking.SpeechParts

    @property
    def of_task(self) -> list[Any]:
        """What changes with the task."""
        return [self.about, self.go, self.audio, self.speech.block, self.outputs[-1], *self.groups.values()]


def build(opening: Opening) -> gr.Blocks:
    """The page."""
    known = {name: tasks.load(name) for name in _in_order(tasks.names())}
    start = next(iter(known))
    with gr.Blocks(title="SpeechLLM", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# SpeechLLM\nIt hears, writes and speaks, as a task says: on this machine, and nowhere else.")
        state = gr.Markdown(OPENING, visible=not opening.is_done)
        with gr.Row():
            with gr.Column(min_width=320):
                task = gr.Radio([(_title(name), name) for name in known], value=start, label="Task")
                about = gr.Markdown(known[start].description)
                audio = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Recording", buttons=[])
                groups, fields = _slot_fields(known, start)
                speech = speaking.voice_fields(known[start].says)
                with gr.Row():
                    go = gr.Button(_title(start), variant="primary", scale=3, min_width=120)
                    stop = gr.Button("Stop", scale=1, min_width=80)
            with gr.Column(min_width=320):
                text = gr.Textbox(label="Answer", lines=5, max_lines=20, interactive=False, buttons=["copy"])
                line = gr.Markdown(elem_id="note")
                live, sound = speaking.players(known[start].says)
                words = gr.HTML(elem_id="words")
        _examples(audio, task, fields)
        outputs = [text, words, line, live, sound]
        parts = Parts(state, audio, task, about, groups, fields, go, stop, outputs, speech)
        _connect(page, parts, opening, known)
    return page.queue(max_size=32, default_concurrency_limit=1)


def _connect(page: gr.Blocks, parts: Parts, opening: Opening, known: dict[str, Task]) -> None:
    """What happens when the page is opened, a task is chosen, a button is pressed."""

    def wait() -> Iterator[gr.Markdown]:
        if not opening.is_done:
            yield gr.Markdown(OPENING, visible=True)
        try:
            speaks = opening.get().aloud.folder is not None
            said = ", ".join(_title(name) for name, task in known.items() if task.says)
            yield gr.Markdown(speaking.MUTE.format(said), visible=not speaks)
        except SpeechLLMError as error:
            yield gr.Markdown(f"No model: {html.escape(str(error))}", visible=True)

    def choose(name: str) -> list[Any]:
        chosen = known[name]
        return [
            chosen.description,
            _title(name),
            gr.Audio(visible=not chosen.reads),
            gr.Column(visible=chosen.says),
            gr.Audio(None, visible=chosen.says),
            *(gr.Column(visible=each == name) for each in parts.groups),
        ]

    def answer(audio: str | None, name: str, voice: str | None, consent: bool, *values: Any) -> Iterator[Shown]:
        own = zip(parts.fields, values, strict=True)
        slots = {slot: value for (of, slot), value in own if of == name and value not in (None, "", [])}
        yield from answered(opening, known[name], audio, slots, gr.Warning, voice, consent)

    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    page.load(wait, None, parts.state, concurrency_limit=None, **hidden)
    parts.task.change(choose, parts.task, parts.of_task, queue=False, **hidden)
    texts = [field for field in parts.fields.values() if isinstance(field, gr.Textbox)]
    pressed = [parts.go.click, *(field.submit for field in texts)]
    gr.on(pressed, None, None, None, js="() => { window.speechPlayer?.begin(); }", **hidden)
    running = gr.on(
        pressed,
        answer,
        [parts.audio, parts.task, parts.speech.voice, parts.speech.consent, *parts.fields.values()],
        parts.outputs,
        concurrency_limit=1,
        show_progress="minimal",
        show_progress_on=[parts.outputs[2]],
        api_name="answer",
    )
    parts.stop.click(None, None, None, js="() => { window.speechPlayer?.stop(); }", **hidden)
    parts.stop.click(lambda: "Stopped.", None, parts.outputs[2], cancels=[running], queue=False, **hidden)


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
                fields[name, slot_name] = _field(task, slot_name, value if slot.required else None)
    return groups, fields


def _field(task: Task, name: str, value: Any) -> gr.Dropdown | gr.Textbox:
    slot = task.slots[name]
    said, _, more = (slot.description or name).partition("; ")
    label, info = _title(said) + ("" if slot.required else " (optional)"), more or None
    if slot.kind != "language":
        lines, most = (3, LONGEST_READ) if name == task.reads else (1, 1000)
        return gr.Textbox(value, label=label, info=info, lines=lines, max_lines=12, max_length=most)
    # A language that must be given is one to write in: those that every task was trained on.
    codes = languages.SPOKEN if slot.required else languages.NAMES
    choices = [languages.NAMES[code] for code in codes]
    if slot.several:
        return gr.Dropdown(choices, value=[], multiselect=True, label=label, info=info)
    if slot.required:
        return gr.Dropdown(choices, value=value, label=label, info=info)
    unsaid = "not given" if task.reads else "found from the sound"
    return gr.Dropdown([(unsaid, ""), *choices], value="", label=label, info=info)


def _examples(audio: gr.Audio, task: gr.Radio, fields: dict[tuple[str, str], Any]) -> None:
    rows, labels = [], []
    shown = [(clip.task, str(clip.audio), clip.slots, clip.text) for clip in clips()]
    for name, path, given, text in [*shown, ("speak", None, {"text": SENTENCE}, SENTENCE)]:
        values = []
        for (of, slot), field in fields.items():
            value = given.get(slot, field.value) if of == name else field.value
            is_list = isinstance(field, gr.Dropdown) and field.multiselect
            values.append([value] if is_list and isinstance(value, str) else value)
        rows.append([path, name, *values])
        labels.append(f"{_title(name)}: {text}")
    gr.Examples(rows, [audio, task, *fields.values()], example_labels=labels, label="Examples to try")


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
