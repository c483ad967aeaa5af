"""A run on two processes at once: caches are made once, the steps are shared, and one model comes out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.training.test_run import data, write_recipe  # noqa: F401 (a fixture)

SCRIPT = """
import json, sys
from speechllm.data import mixture
from speechllm.training import recipe
rows = json.load(open("rows.json"))
mixture.build = lambda spec: rows[: spec.rows]
recipe.run("toy.yaml", "run")
"""


def test_two_processes_make_one_model(data: list[dict], tmp_path: Path) -> None:  # noqa: F811
    write_recipe(tmp_path)
    (tmp_path / "rows.json").write_text(json.dumps(data))
    (tmp_path / "go.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "go.py"]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("reader", "ctc", "language"):
        lines = (tmp_path / "run" / stage / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    tensors = load_file(tmp_path / "run/model/model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert tensors["bridge.residual.weight"].any()
