"""A model hub's repository as a folder: asked once with a short time-out, kept by huggingface_hub in its own
cache.

Safetensors, JSON and tokenizer files only; weights in other formats and code are never fetched.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechllm.errors import WeightsError

SECONDS = 5.0  # a hub that has not answered by then is passed over
FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


class HubSilent(WeightsError):
    """The hub is not asked, or does not answer: other repositories of it need not be tried."""


def is_offline() -> bool:
    """Whether the environment forbids to ask a hub (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in names)


def snapshot(repository: str, progress: bool = True) -> tuple[Path, str]:
    """Folder with a repository's files, and its revision; without a hub, what huggingface_hub kept of it.

    Raises WeightsError (why, in a few words) when there is no such repository, it asks for a login, it has no
    safetensors or the hub does not answer within five seconds.
    """
    try:
        folder = _download(repository, progress)
    except WeightsError:
        kept = _kept(repository)
        if kept is None:
            raise
        folder = kept
    if not has_tensors(folder):
        raise WeightsError(f"{repository} holds no whole set of safetensors")
    return folder, folder.name


@contextmanager
def quiet() -> Iterator[None]:
    """Inside this block transformers draws no bars ("Loading weights"); what was chosen before holds again after it."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    was_shown, was_hub_silent = logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()
        if was_shown and was_hub_silent:
            disable_progress_bars()


def _download(repository: str, progress: bool) -> Path:
    from huggingface_hub import snapshot_download

    if is_offline():
        raise HubSilent("offline by HF_HUB_OFFLINE")
    _check(repository)
    try:
        folder = snapshot_download(
            repository,
            allow_patterns=FILES,
            ignore_patterns=["*/*"],
            etag_timeout=SECONDS,
            tqdm_class=None if progress else _silent(),
        )
    except Exception as error:  # of several HTTP libraries and formats: another source may do
        raise WeightsError(f"{repository}: {_first_line(error)}") from error
    return Path(folder)


def _kept(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, allow_patterns=FILES, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return folder if (folder / "config.json").is_file() and has_tensors(folder) else None


def has_tensors(folder: Path) -> bool:
    """Whether a folder holds all the safetensors that it should: one file, or every shard of its index."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        return all((folder / shard).is_file() for shard in shards)
    return any(folder.glob("*.safetensors"))


def _silent():
    from functools import partialmethod

    from huggingface_hub.utils import tqdm

    return type("SilentBar", (tqdm,), {"__init__": partialmethod(tqdm.__init__, disable=True)})


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _check(repository: str) -> None:
    """Raises WeightsError when the hub refuses, HubSilent when it is silent."""
    from huggingface_hub.errors import HfHubHTTPError

    answers: list[Exception | None] = []
    # in a thread: looking up the name of a host obeys no time-out
    thread = threading.Thread(target=lambda: answers.append(_answer(repository)), daemon=True)
    thread.start()
    thread.join(SECONDS + 1)
    if not answers:
        raise HubSilent(f"the hub does not answer within {SECONDS:.0f} s")
    if isinstance(answers[0], HfHubHTTPError):
        raise WeightsError(f"{repository} cannot be had from the hub ({_first_line(answers[0])})")
    if answers[0]:
        raise HubSilent(f"the hub cannot be reached ({_first_line(answers[0])})")


def _answer(repository: str) -> Exception | None:
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, "config.json"), token=get_token(), timeout=SECONDS)
    except Exception as error:  # of several HTTP libraries
        return error
    return None
