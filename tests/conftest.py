"""Fixtures shared by all tests."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from speechllm.model import SpeechLLM
from speechllm.testing import tiny_model

# A busy machine takes longer over an example now and then, which says nothing about the code.
settings.register_profile("any machine", deadline=None, derandomize=True)
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and sums come out alike everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SpeechLLM:
    """A whole model of random weights; tests must not change it."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """accelerate keeps the first device and number format of a process; each test chooses its own."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
