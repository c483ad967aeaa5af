"""Debian packages as a source of data, unpacked without root.

`SPEECHLLM_DEB` names a folder that holds the .deb files, or one into which they were unpacked already; what
is not there is fetched by `apt-get download` and unpacked into the user's cache.
"""

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from speechllm.errors import DataError
from speechllm.weights import cache_folder

DEB_VARIABLE = "SPEECHLLM_DEB"


def unpacked(names: Sequence[str], below: str = "usr") -> Path:
    """Folder that holds the files of all these packages, or those below a path ("usr/share/games").

    Raises DataError when a package can neither be found nor downloaded.
    """
    given = os.environ.get(DEB_VARIABLE)
    if given and all((Path(given) / "usr/share/doc" / name).is_dir() for name in names):
        return Path(given)
    cache = cache_folder() / "debian"
    missing = [name for name in names if not (cache / f"{name}.done").is_file()]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            for name in missing:
                _unpack(_package(name, given, Path(scratch)), cache, below)
                (cache / f"{name}.done").touch()
    return cache


def _unpack(package: Path, folder: Path, below: str) -> None:
    with tempfile.TemporaryFile() as archive:
        _run(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=archive)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as members:
            wanted = [member for member in members if Path(member.name).as_posix().startswith(below)]
            members.extractall(folder, wanted, filter="data")


def _package(name: str, folder: str | None, scratch: Path) -> Path:
    """Path of the .deb file of a package, from the folder if it is there, else downloaded."""
    pattern = f"{name}_*.deb"
    found = sorted(Path(folder).glob(pattern)) if folder else []
    if not found:
        _run(["apt-get", "download", name], folder=scratch)
        found = sorted(scratch.glob(pattern))
    if not found:
        raise DataError(f"the package client did not give {name}: {_advice()}")
    return found[-1]


def _run(command: list[str], folder: Path | None = None, stdout: IO[bytes] | int = subprocess.DEVNULL) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, stdout=stdout, stderr=subprocess.PIPE)
    except OSError as error:
        raise DataError(f"{command[0]} cannot be run ({error.strerror}): {_advice()}") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise DataError(f"{' '.join(command[:3])} failed ({reason[-1]}): {_advice()}") from error


def _advice() -> str:
    return f"put the .deb files into a folder and set {DEB_VARIABLE} to it"
