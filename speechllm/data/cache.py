"""A cache on disk of what a frozen model makes of each row: computed once, read lazily, safe to kill.

The key is a hash of the rows and of whatever made the values, so a changed corpus or model never meets old values.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

SHARD = 256  # rows a file: what a kill can cost


class Cache:
    """Named tensors of row 0 … n-1; `cache[i]` gives the dict of row i."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        self.rows = rows
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        shard = row // SHARD
        if shard not in self._open:
            self._open[shard] = safe_open(self.folder / f"{shard:05d}.safetensors", "pt")
        file, prefix = self._open[shard], f"{row}/"
        return {name.removeprefix(prefix): file.get_tensor(name) for name in self._names(shard).get(row, ())}

    def _names(self, shard: int) -> dict[int, list[str]]:
        names = self.__dict__.setdefault("_index", {})
        if shard not in names:
            by_row: dict[int, list[str]] = {}
            for name in self._open[shard].keys():  # noqa: SIM118 (no mapping: it cannot be iterated)
                by_row.setdefault(int(name.split("/", 1)[0]), []).append(name)
            names[shard] = by_row
        return names[shard]


@dataclass(frozen=True)
class Empty:
    """So many rows, of which nothing is kept."""

    rows: int

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {}


class Chosen:
    """Some rows of several caches as one, in the order of `rows`, which count on from cache to cache."""

    def __init__(self, parts: Sequence[Cache | Empty], rows: Sequence[int]) -> None:
        self.parts, self.rows = parts, rows
        self.ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        number = self.rows[row]
        part = bisect_right(self.ends, number)
        return self.parts[part][number - self.ends[part] + len(self.parts[part])]


def digest(*parts: object) -> str:
    """Sixteen hex digits that name the content of `parts` (anything JSON can write)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def build(
    root: Path, key: str, rows: Sequence[dict], compute: Callable[[list[dict]], Iterable[dict[str, Tensor]]], title: str
) -> Cache:
    """Fill the missing shards of `root/key` with `compute(rows of a shard)` and return the cache."""
    folder = root / key
    folder.mkdir(parents=True, exist_ok=True)
    starts = [start for start in range(0, len(rows), SHARD) if not _shard(folder, start).exists()]
    for start in tqdm(starts, desc=title, unit="shard", disable=not starts):
        values = list(compute(list(rows[start : start + SHARD])))
        assert len(values) == len(rows[start : start + SHARD]), "one dict of tensors a row"
        named = {
            f"{start + i}/{name}": tensor.contiguous() for i, row in enumerate(values) for name, tensor in row.items()
        }
        write_whole(_shard(folder, start), partial(save_file, named))
    return Cache(folder, len(rows))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it there: a kill or another process never meets half of one."""
    beside = path.with_suffix(f".{os.getpid()}.partial")
    write(beside)
    os.replace(beside, path)


def _shard(folder: Path, start: int) -> Path:
    return folder / f"{start // SHARD:05d}.safetensors"
