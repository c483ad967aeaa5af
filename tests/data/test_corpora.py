"""Manifests and texts: what is read, and what a malformed file says."""

import gzip
import json

import pytest

from speechllm.data import corpora
from speechllm.errors import DataError


def _write(folder, rows):
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_manifest_filters_split_and_language(tmp_path):
    row = {"audio": "a.ogg", "text": "Hallo.", "lang": "de", "split": "eval", "duration": 1.5, "accent": "x"}
    path = _write(tmp_path, [row, {**row, "lang": "en"}, {**row, "split": "train"}])
    (example,) = corpora.manifest(path, split="eval", lang="de")
    assert example.audio == tmp_path / "a.ogg"
    assert (example.text, example.seconds, example.fields) == ("Hallo.", 1.5, {"accent": "x"})
    assert len(list(corpora.manifest(tmp_path))) == 3


def test_manifest_without_text_or_split(tmp_path):
    (example,) = corpora.manifest(_write(tmp_path, [{"audio": "a.ogg", "text": None}]))
    assert (example.text, example.split, example.lang) == (None, "train", "")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ('"""He lives here,"" his friend had said."', '"He lives here," his friend had said.'),
        ('""No,"" he said.', '"No," he said.'),
        ('A "normal" text.', 'A "normal" text.'),
        ('"Quoted."', '"Quoted."'),
    ],
)
def test_texts_quoted_by_a_table_are_unquoted(tmp_path, stored, said):
    (example,) = corpora.manifest(_write(tmp_path, [{"audio": "a.ogg", "text": stored}]))
    assert example.text == said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "no audio"}\n', "no field 'audio'"),
        (b'{"audio": "a.ogg"}\n{"audio\n', "line 2"),
        (b"[1]\n", "JSON object"),
        (b"\xff\xfe\n", "not UTF-8"),
    ],
)
def test_malformed_manifest_says_where(tmp_path, content, message):
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(corpora.manifest(path))


def test_missing_and_truncated_files(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        list(corpora.rows(tmp_path / "none.jsonl"))
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 100)[:-12])
    with pytest.raises(DataError, match="cannot read"):
        list(corpora.rows(path))


def test_data_folder_is_configurable(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHLLM_DATA", str(tmp_path))
    assert corpora.data_folder() == tmp_path
    monkeypatch.delenv("SPEECHLLM_DATA")
    assert corpora.data_folder().parts[-2:] == ("shared", "data")
