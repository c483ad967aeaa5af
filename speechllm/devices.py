"""Where a model runs: the name of a device, checked before anything is loaded for it."""

from __future__ import annotations

import re

from speechllm.errors import SpeechLLMError

_NAMES = re.compile(r"cpu|mps|cuda(:\d+)?", re.ASCII)


def checked(name: str | None) -> str:
    """The device of that name: "cpu", "cuda", "cuda:1" or "mps"; None gives "cuda" where there is a GPU, else "cpu".

    Raises:
        SpeechLLMError: there is no such device, on this machine or at all.
    """
    if name is not None and not (isinstance(name, str) and _NAMES.fullmatch(name)):
        raise SpeechLLMError(f"{str(name)[:40]!r} is no device: use cpu, cuda, cuda:1 or mps")
    if name == "cpu":
        return name
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "mps":
        is_there = torch.backends.mps.is_available()
    else:
        number = int(name.partition(":")[2] or 0)
        is_there = torch.cuda.is_available() and number < torch.cuda.device_count()
    if not is_there:
        raise SpeechLLMError(f"there is no {name} device on this machine; leave the device out to do without")
    return name
