"""A residual vector quantiser with factorised, l2-normalised codebooks: latents to codes and back.

Each codebook projects what is left of a latent to a few dimensions and onto the unit sphere, where the nearest
entry is the one of largest cosine; it is widened again and taken off (Kumar et al. 2023, "Descript Audio Codec",
§3.2; Yu et al. 2021, "ViT-VQGAN", §3.2). Formulas, for the residual r_k of codebook k:

    z = W_in r_k / |W_in r_k|      i = argmax_j <z, e_j>      q_k = W_out e_i + b      r_{k+1} = r_k - q_k

The gradient passes the choice straight through (van den Oord et al. 2017, §3.2). Entries follow the latents that
chose them by moving averages, normalised (spherical k-means; van den Oord et al., appendix A.1), and an entry that
nobody chooses begins anew at a latent of the batch (Dhariwal et al. 2020, "Jukebox", §3.1), which is also how all of
them begin. In training each row may use the first codebooks only, so that few of them decode (DAC, §3.2).

Limit: with several processes, entries follow the batches of the first one, whose buffers the others copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DECAY = 0.97  # of the moving averages
DEAD = 0.05  # share of an equal use below which an entry begins anew


@dataclass(frozen=True)
class Quantised:
    """What the quantiser makes of latents (B, T, D)."""

    values: Tensor  # (B, T, D) float32, the sum of the codebooks in use, with a straight-through gradient
    codes: Tensor  # (B, K, T) int64, of all codebooks
    first: Tensor  # (B, T, D) float32, of the first codebook alone
    commitment: Tensor  # (), see `Codebook.forward`, summed over the codebooks in use


class Codebook(nn.Module):
    """One codebook of `entries` unit vectors of `narrow` dimensions between two projections of width `size`."""

    def __init__(self, size: int, entries: int, narrow: int) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Linear(size, narrow), nn.Linear(narrow, size)
        self.entries: Tensor
        self.counts: Tensor
        self.register_buffer("entries", F.normalize(torch.randn(entries, narrow), dim=-1))
        # How often each was chosen of late, a batch; zero: every entry begins at a latent of the first batch.
        self.register_buffer("counts", torch.zeros(entries))

    def project(self, residual: Tensor) -> Tensor:
        """The unit vectors (..., narrow) that are compared with the entries."""
        return F.normalize(self.narrow(residual), dim=-1)

    def nearest(self, projected: Tensor) -> Tensor:
        """Numbers (...) of the entries with the largest cosine."""
        return (projected @ self.entries.T).argmax(-1)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantised residual (..., D), codes (...), and |z - e_i|^2 a dimension (...), which pulls z to its entry."""
        projected = self.project(residual)
        if self.training:
            self._revive(projected.detach().flatten(0, -2))
        codes = self.nearest(projected)
        chosen = self.entries[codes]
        if self.training:
            self._follow(projected.detach().flatten(0, -2), codes.flatten())
        commitment = (projected - chosen).square().mean(-1)
        return self.widen(projected + (chosen - projected).detach()), codes, commitment

    def values(self, codes: Tensor) -> Tensor:
        """What codes (...) stand for, (..., D)."""
        return self.widen(self.entries[codes])

    @torch.no_grad()
    def _revive(self, projected: Tensor) -> None:
        """Move entries out of use to latents (M, narrow) drawn from the batch."""
        equal = len(projected) / len(self.counts)
        dead = self.counts < DEAD * equal
        if dead.any():
            drawn = torch.randint(len(projected), (int(dead.sum()),), device=projected.device)
            self.entries[dead] = projected[drawn]
            self.counts[dead] = 2 * DEAD * equal

    @torch.no_grad()
    def _follow(self, projected: Tensor, codes: Tensor) -> None:
        """Turn each entry towards the mean of the latents (M, narrow) that chose it."""
        counts = torch.zeros_like(self.counts).index_add_(0, codes, torch.ones_like(projected[:, 0]))
        sums = torch.zeros_like(self.entries).index_add_(0, codes, projected)
        moved = DECAY * self.counts[:, None] * self.entries + (1 - DECAY) * sums
        self.counts.mul_(DECAY).add_(counts, alpha=1 - DECAY)
        # Where an entry's pulls cancel out there is no direction: it stays.
        turns = moved.norm(dim=-1, keepdim=True) > 1e-8
        self.entries.copy_(torch.where(turns, F.normalize(moved, dim=-1), self.entries))


class ResidualQuantiser(nn.Module):
    """`codebooks` = K codebooks one after another; computes in float32 under autocast too."""

    def __init__(self, size: int, codebooks: int = 8, entries: int = 1024, narrow: int = 8) -> None:
        super().__init__()
        self.books = nn.ModuleList(Codebook(size, entries, narrow) for _ in range(codebooks))

    def forward(self, latents: Tensor, depths: Tensor | None = None) -> Quantised:
        """Quantise latents (B, T, D) with the first `depths` (B,) codebooks of each row; None: with all.

        In training mode the entries learn.
        """
        assert latents.ndim == 3, tuple(latents.shape)
        batch = latents.shape[0]
        if depths is None:
            depths = torch.full((batch,), len(self.books), device=latents.device)
        with torch.autocast(latents.device.type, enabled=False):
            residual = latents.float()
            used = torch.zeros_like(residual)
            commitment = residual.new_zeros(())
            codes, first = [], used
            for number, book in enumerate(self.books):
                part, chosen, distance = book(residual)
                in_use = (depths > number).to(part.dtype)
                used = used + part * in_use[:, None, None]
                commitment = commitment + (distance.mean(-1) * in_use).mean()
                residual = residual - part
                codes.append(chosen)
                first = part if number == 0 else first
        return Quantised(used, torch.stack(codes, dim=1), first, commitment)

    def encode(self, latents: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes (B, K', T) int64 of latents (B, T, D) by the first `codebooks` = K' codebooks."""
        residual, codes = latents.float(), []
        for book in cast(list[Codebook], list(self.books)[:codebooks]):
            codes.append(book.nearest(book.project(residual)))
            residual = residual - book.values(codes[-1])
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Latents (B, T, D) float32 of codes (B, K', T)."""
        assert codes.ndim == 3 and 1 <= codes.shape[1] <= len(self.books), tuple(codes.shape)
        books = cast(list[Codebook], list(self.books)[: codes.shape[1]])
        parts = [book.values(chosen) for book, chosen in zip(books, codes.unbind(1), strict=True)]
        return torch.stack(parts).sum(0)


def draw_depths(rows: int, depths: Sequence[int], share: float, generator: torch.Generator) -> Tensor:
    """How many codebooks each of `rows` rows uses (rows,) int64: the most, but for a `share` any of `depths`."""
    drawn = torch.tensor(depths)[torch.randint(len(depths), (rows,), generator=generator)]
    return torch.where(torch.rand(rows, generator=generator) < share, drawn, max(depths))
