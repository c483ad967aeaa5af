"""The package as a whole: what it costs to import, and that a wheel carries all it needs."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import speechllm

ROOT = Path(__file__).parent.parent


LIGHT = ["speechllm", *(f"speechllm.{m}" for m in ("audio.clip", "cli", "prompts", "tasks", "weights"))]
INSTALLED = """
import sys
import speechllm
from speechllm import tasks, weights

assert speechllm.__file__.startswith(sys.argv[1]), speechllm.__file__
for name in tasks.names():
    task = tasks.load(name)
    task.instruction({slot: "German" for slot in task.slots})
print(*tasks.names(), weights.get("pocket"))
"""


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def test_import_takes_less_than_a_third_of_a_second():
    code = "import time; t = time.perf_counter(); import speechllm; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(3)) <= 0.3


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_no_heavy_library(module):
    code = f"import sys, {module}; print({{'torch', 'transformers', 'huggingface_hub'}} & set(sys.modules))"
    assert run(code) == "set()"


def test_public_names_are_there():
    for name in speechllm.__all__:
        assert name in dir(speechllm)
        assert getattr(speechllm, name) is not None
    for module in set(speechllm._MODULES.values()):
        assert importlib.util.find_spec(module)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = speechllm.nothing_of_the_kind


def test_a_wheel_carries_the_data_and_finds_it(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for folder in ("tasks", "prompts", "recipes", "models"):
            for path in (ROOT / folder).rglob("*"):
                assert path.is_dir() or f"speechllm/_data/{path.relative_to(ROOT)}" in names
        licences = {Path(name).name for name in names if ".dist-info/licenses/" in name}
        assert {"LICENSE", "NOTICE", "GEMMA_TERMS.txt"} <= licences
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", INSTALLED, str(tmp_path)]
    printed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    assert "transcribe" in printed.stdout
    assert printed.stdout.strip().endswith("speechllm/_data/models/pocket")
