"""README and docs hold: snippets run, commands parse, paths exist, links lead somewhere.

A fence with a title, ```yaml title="mine.yaml", is a file of the reader's own: it is written before the document's
snippets run, in a folder that looks like the repository. The snippets of one document share one namespace.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.__main__ import NAMES
from speechllm import cli, commands

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r'^```(\w*)(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
MADE = ("runs/", "bench/results/")  # folders that a command makes
SUFFIXES = (".py", ".md", ".yaml", ".yml", ".txt", ".toml")
OPERATORS = {"|", "||", "&&", ";"}


@dataclass(frozen=True)
class Fence:
    """A block of code in a document."""

    kind: str
    title: str | None
    text: str
    line: int  # of its first line of code, from 1


def fences(text: str) -> list[Fence]:
    return [Fence(m[1], m[2], m[3], text.count("\n", 0, m.start(3)) + 1) for m in FENCE.finditer(text)]


def prose(text: str) -> str:
    return FENCE.sub("", text)


def command_lines(text: str) -> Iterator[list[str]]:
    """Words of each command in the sh fences and of those in backticks that begin like one."""
    shell = [line for fence in fences(text) if fence.kind == "sh" for line in fence.text.splitlines()]
    named = [code for code in CODE.findall(prose(text)) if re.match(r"(speechllm|python|make) \S", code)]
    for line in [*shell, *named]:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if word in OPERATORS:
                yield words
                words = []
            else:
                words.append(word)
        if words:
            yield words


def wrong_with(words: list[str]) -> str | None:
    """What is wrong with a command, None if nothing; the command is not run."""
    name, *rest = words
    if name == "speechllm":
        return wrong_with_options(rest)
    if name == "make":
        return wrong_with_make(rest)
    if words[:2] == ["accelerate", "launch"]:
        name, rest = "python", words[2:]
    if name == "python":
        known = importlib.util.find_spec(rest[1]) if rest[0] == "-m" else (ROOT / rest[0]).is_file()
        missing = [word for word in rest[1:] if word.endswith(SUFFIXES) and not (ROOT / word).is_file()]
        return None if known and not missing else "a program or file that is not there"
    return None if name in ("cat", "pip") else "no command of this project"


def wrong_with_options(words: list[str]) -> str | None:
    try:
        options = cli._parser().parse_args(words)
        if options.command == "run":
            commands._checked(options.task, options.set, options.lang, None, options.reader)
        elif options.command == "evaluate":
            commands.known_task(options.task)
        elif options.command == "train" and not str(options.recipe).startswith(MADE):
            return None if options.recipe.exists() else f"no {options.recipe}"
    except (SystemExit, commands.UsageError) as error:
        return f"refused: {error}"
    return None


def wrong_with_make(words: list[str]) -> str | None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    settings = dict(word.partition("=")[::2] for word in words if "=" in word)
    wanted = [word for word in words if "=" not in word]
    unknown = [word for word in wanted if word not in targets]
    if wanted == ["bench"]:
        unknown += [word for word in settings.get("ARGS", "").split() if word not in NAMES]
    return f"no {unknown[0]}" if unknown else None


def paths(text: str) -> Iterator[str]:
    """What stands in backticks and names a file or folder of the repository or of the package."""
    own = {fence.title for fence in fences(text)}
    for code in CODE.findall(prose(text)):
        if code in own or code.startswith(MADE) or not re.fullmatch(r"[\w*][\w.*-]*(/[\w.*-]+)*/?", code):
            continue
        if code.endswith(SUFFIXES) or "/" in code:
            yield code


def missing_paths(text: str) -> list[str]:
    return [path for path in paths(text) if not any(ROOT.glob(path.rstrip("/")))]


def dead_links(document: Path, text: str) -> list[str]:
    targets = [target.partition("#")[0] for target in LINK.findall(prose(text)) if "://" not in target]
    return [target for target in targets if target and not (document.parent / target).exists()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the repository and may be written into."""
    folder = tmp_path / "place"
    folder.mkdir()
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "runs":
            (folder / entry.name).symlink_to(entry)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return folder


def write_files(text: str, folder: Path) -> None:
    for fence in fences(text):
        if fence.title:
            (folder / fence.title).write_text(fence.text, "utf-8")


def run_snippets(document: str, text: str) -> int:
    """Run the python fences in one namespace; a traceback names the document and its line."""
    namespace: dict[str, object] = {"__name__": "__snippets__"}
    snippets = [fence for fence in fences(text) if fence.kind == "python"]
    for fence in snippets:
        exec(compile("\n" * (fence.line - 1) + fence.text, document, "exec"), namespace)
    return len(snippets)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_snippets_run(document: Path, place: Path) -> None:
    text = document.read_text("utf-8")
    write_files(text, place)
    assert run_snippets(document.name, text) > 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_parse(document: Path, place: Path) -> None:
    text = document.read_text("utf-8")
    write_files(text, place)
    found = [(" ".join(words), wrong_with(words)) for words in command_lines(text)]
    assert [pair for pair in found if pair[1]] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_and_links_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    assert (missing_paths(text), dead_links(document, text)) == ([], [])


def test_documents_are_there() -> None:
    wanted = {"README.md", "architecture.md", "add_a_task.md", "training.md"}
    assert wanted <= {document.name for document in DOCUMENTS}
    assert any(words[:2] == ["speechllm", "run"] for words in command_lines(DOCUMENTS[0].read_text("utf-8")))


MADE_DOCUMENT = """# A document
See [the tests](../tests/conftest.py), [nothing](gone.md#here) and [far](https://example.org/x).
`Makefile`, `speechllm/cli.py`, `speechllm/audio/`, `prompts/*.txt`, `mine.yaml`, `runs/x/model`, `Assistant("a/b")`,
`speechllm/gone.py`, `gone.txt`. Run `speechllm weights --sauce hub`, `python -m bench.gone`, `make coffee`.

```python
kept = 1
```
text

```sh
cat a.ogg | speechllm run transcribe - --lang de  # fine
speechllm run translate a.ogg --set target=Klingon
speechllm run mine.yaml a.ogg
make bench ARGS=nothing
rm a.ogg
```

```yaml title="mine.yaml"
name: mine
prompt: answer
target: answer
```

```python
raise ValueError(kept)
```
"""


def test_faults_are_found(place: Path) -> None:
    write_files(MADE_DOCUMENT, place)
    wrong = [" ".join(words) for words in command_lines(MADE_DOCUMENT) if wrong_with(words)]
    assert wrong == [
        "speechllm run translate a.ogg --set target=Klingon",
        "make bench ARGS=nothing",
        "rm a.ogg",
        "speechllm weights --sauce hub",
        "python -m bench.gone",
        "make coffee",
    ]
    assert missing_paths(MADE_DOCUMENT) == ["speechllm/gone.py", "gone.txt"]
    assert dead_links(ROOT / "docs" / "made.md", MADE_DOCUMENT) == ["gone.md"]


def test_a_failing_snippet_says_where() -> None:
    with pytest.raises(ValueError, match="1") as caught:
        run_snippets("made.md", MADE_DOCUMENT)
    last = caught.traceback[-1]
    lines = MADE_DOCUMENT.splitlines()
    assert (str(last.path).endswith("made.md"), lines[last.lineno]) == (True, "raise ValueError(kept)")
