"""The bundled clips: small, readable, named in the README with their licence, and what the manifest says."""

import json
from pathlib import Path

import pytest

from speechllm import tasks
from speechllm.audio import load

CLIPS = Path(__file__).parents[2] / "demos" / "clips"
ROWS = [json.loads(line) for line in (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def test_size_and_variety() -> None:
    assert 4 <= len(ROWS) <= 6
    assert len({row["lang"] for row in ROWS}) >= 2
    plain = {name for name in tasks.names() if not tasks.load(name).says and not tasks.load(name).reads}
    assert {row["task"] for row in ROWS} == plain
    assert sum(path.stat().st_size for path in CLIPS.iterdir()) < 1_000_000
    assert {path.name for path in CLIPS.glob("*.ogg")} == {row["audio"] for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["audio"])
def test_each_clip(row: dict) -> None:
    assert 2 < load(CLIPS / row["audio"]).seconds < 8
    assert row["text"]
    assert row["licence"] in ("CC BY 4.0", "CC0 1.0")
    assert row["attribution"]
    readme = (CLIPS / "README.md").read_text(encoding="utf-8")
    assert f"| {row['audio']} |" in readme
    assert row["licence"] in readme
    assert tasks.load(row["task"]).instruction(row["slots"])
