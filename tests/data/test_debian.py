"""Debian packages: found unpacked, unpacked from a folder, or a line that says what to do."""

import shutil
import subprocess

import pytest

from speechllm.data import debian, dialogues
from speechllm.errors import DataError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_unpacked_folder_is_used_as_it_is(unpacked_prompts, cache):
    assert debian.unpacked(["fillets-ng-data"]) == unpacked_prompts
    assert not cache.exists()


def test_missing_packages_say_what_to_do(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("SPEECHLLM_DEB", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="set SPEECHLLM_DEB") as error:
        debian.unpacked(["no-such-package"])
    assert "\n" not in str(error.value)


def test_a_package_is_unpacked_once_and_only_below_the_path(tmp_path, monkeypatch, cache):
    if shutil.which("dpkg-deb") is None:  # not a Debian machine: it must say so
        with pytest.raises(DataError, match="set SPEECHLLM_DEB"):
            debian.unpacked(["tiny"])
        return
    for path in ("DEBIAN", "usr/share/a", "etc"):
        (tmp_path / "made" / path).mkdir(parents=True)
    control = "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: tiny\n"
    (tmp_path / "made/DEBIAN/control").write_text(control)
    (tmp_path / "made/usr/share/a/text").write_text("hello")
    (tmp_path / "made/etc/other").write_text("not wanted")
    subprocess.run(["dpkg-deb", "-b", tmp_path / "made", tmp_path / "tiny_1_all.deb"], check=True, capture_output=True)
    monkeypatch.setenv("SPEECHLLM_DEB", str(tmp_path))
    folder = debian.unpacked(["tiny"])
    assert (folder / "usr/share/a/text").read_text() == "hello"
    assert not (folder / "etc").exists()
    (tmp_path / "tiny_1_all.deb").unlink()
    assert debian.unpacked(["tiny"]) == folder


def test_a_broken_package_is_one_line(tmp_path, monkeypatch, cache):
    (tmp_path / "tiny_1_all.deb").write_bytes(b"not a package")
    monkeypatch.setenv("SPEECHLLM_DEB", str(tmp_path))
    with pytest.raises(DataError, match="dpkg-deb"):
        debian.unpacked(["tiny"])


def test_dialogues_are_pairs_with_plain_marks(unpacked_prompts):
    assert dialogues.pairs("it") == [('He\'s seen "nothing" here.', "Lui non vede niente qui.")]


def test_lines_without_words_are_left_out():
    script = 'dialogId("a", "f", "...")\ndialogStr("...")\ndialogId("b", "f", "Well.....")\n\ndialogStr("Beh...")'
    assert dialogues.parse(script) == [("Well...", "Beh...")]
