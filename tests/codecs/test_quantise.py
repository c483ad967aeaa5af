"""The residual quantiser against a computation by hand, its gradient against differences, its codebooks' learning."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from speechllm.codecs.quantise import DEAD, DECAY, Codebook, ResidualQuantiser, draw_depths


def plain(entries: list[list[float]], size: int = 2) -> Codebook:
    """A codebook in the plane whose projections change nothing."""
    book = Codebook(size, len(entries), 2)
    with torch.no_grad():
        for layer in (book.narrow, book.widen):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
        book.entries.copy_(torch.tensor(entries))
        book.counts.fill_(1.0)
    return book


@torch.no_grad()
def by_hand(quantiser: ResidualQuantiser, latents: Tensor, depth: int) -> tuple[Tensor, list[list[int]]]:
    """The formulas of the module, one vector at a time: values and codes."""
    values, codes = [], []
    for latent in latents.reshape(-1, latents.shape[-1]):
        residual, total, chosen = latent.clone(), torch.zeros_like(latent), []
        for book in quantiser.books:
            assert isinstance(book, Codebook)
            z = book.narrow.weight @ residual + book.narrow.bias
            z = z / z.norm()
            best = int((book.entries * z).sum(-1).argmax())
            part = book.widen.weight @ book.entries[best] + book.widen.bias
            if len(chosen) < depth:
                total = total + part
            residual = residual - part
            chosen.append(best)
        values.append(total)
        codes.append(chosen)
    return torch.stack(values).view_as(latents), codes


def test_a_plane_by_hand() -> None:
    book = plain([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]).eval()
    values, codes, commitment = book(torch.tensor([[3.0, 4.0], [-5.0, 0.0], [4.0, 3.0]]))
    assert codes.tolist() == [1, 2, 0]  # by angle, whatever the length
    assert values.tolist() == [[0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]]
    # (0.6, 0.8) is 0.36 + 0.04 from (0, 1): half of it a dimension
    assert torch.allclose(commitment, torch.tensor([0.2, 0.0, 0.2]), atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_residuals_follow_the_formulas(depth: int) -> None:
    torch.manual_seed(0)
    quantiser = ResidualQuantiser(6, codebooks=4, entries=16, narrow=3).eval()
    latents = torch.randn(2, 5, 6)
    found = quantiser(latents, torch.full((2,), depth))
    values, codes = by_hand(quantiser, latents, depth)
    assert torch.allclose(found.values, values, atol=1e-5)
    assert found.codes.transpose(1, 2).reshape(-1, 4).tolist() == codes
    assert torch.allclose(found.first, by_hand(quantiser, latents, 1)[0], atol=1e-5)


def test_codes_say_all_that_the_values_are() -> None:
    torch.manual_seed(0)
    quantiser = ResidualQuantiser(6, codebooks=4, entries=16, narrow=3).eval()
    latents = torch.randn(2, 5, 6)
    codes = quantiser.encode(latents)
    assert torch.equal(codes, quantiser(latents).codes)
    assert torch.equal(quantiser.encode(latents, 2), codes[:, :2])
    for depth in (1, 2, 4):
        expected = quantiser(latents, torch.full((2,), depth)).values
        assert torch.allclose(quantiser.decode(codes[:, :depth]), expected, atol=1e-5)


def test_each_row_has_its_own_depth() -> None:
    torch.manual_seed(0)
    quantiser = ResidualQuantiser(6, codebooks=4, entries=16, narrow=3).eval()
    latents = torch.randn(3, 5, 6)
    together = quantiser(latents, torch.tensor([1, 4, 2]))
    for row, depth in enumerate((1, 4, 2)):
        alone = quantiser(latents[row : row + 1], torch.tensor([depth]))
        assert torch.allclose(together.values[row], alone.values[0], atol=1e-6)
    depths = torch.tensor([1, 4, 2])
    parts = [quantiser(latents[row : row + 1], depths[row : row + 1]).commitment for row in range(3)]
    assert torch.allclose(together.commitment, torch.stack(parts).mean(), atol=1e-6)


def test_the_gradient_goes_straight_through() -> None:
    """With the choice taken as the identity, values are W_out z + b: differences of that are the oracle."""
    torch.manual_seed(0)
    book = Codebook(4, 8, 3).double().eval()
    latent = torch.randn(4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, dtype=torch.float64)
    (book(latent)[0] @ weights).backward()
    assert latent.grad is not None

    @torch.no_grad()
    def passed(at: Tensor) -> float:
        return float(book.widen(F.normalize(book.narrow(at), dim=-1)) @ weights)

    for i in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[i] = 1e-6
        difference = (passed(latent.detach() + step) - passed(latent.detach() - step)) / 2e-6
        assert float(latent.grad[i]) == pytest.approx(difference, abs=1e-6)


def test_commitment_pulls_latents_to_their_entries() -> None:
    book = plain([[1.0, 0.0], [-1.0, 0.0]]).eval()
    latent = torch.tensor([[0.6, 0.8]], requires_grad=True)
    before = book(latent)[2]
    before.sum().backward()
    assert latent.grad is not None
    after = book(latent.detach() - 0.1 * latent.grad)[2]
    assert after < before


def test_entries_follow_the_latents_that_chose_them() -> None:
    book = plain([[1.0, 0.0], [0.0, 1.0]]).train()
    latents = torch.tensor([[0.8, 0.6], [0.8, -0.6], [0.6, 0.8], [0.28, 0.96]])
    book(latents)
    first = DECAY * torch.tensor([1.0, 0.0]) + (1 - DECAY) * torch.tensor([1.6, 0.0])
    second = DECAY * torch.tensor([0.0, 1.0]) + (1 - DECAY) * torch.tensor([0.88, 1.76])
    assert torch.allclose(book.entries, F.normalize(torch.stack([first, second]), dim=-1), atol=1e-6)
    assert torch.allclose(book.counts, torch.full((2,), DECAY + 2 * (1 - DECAY)))


def test_entries_rest_in_evaluation() -> None:
    quantiser = ResidualQuantiser(6, 2, 16, 3).eval()
    before = {name: each.clone() for name, each in quantiser.state_dict().items()}
    quantiser(torch.randn(2, 50, 6))
    assert all(torch.equal(each, before[name]) for name, each in quantiser.state_dict().items())


def test_an_entry_that_nobody_chooses_begins_anew_at_a_latent() -> None:
    book = plain([[1.0, 0.0], [-1.0, 0.0]]).train()
    book.counts[1] = DEAD / 2  # of two latents for two entries
    latents = torch.tensor([[0.8, 0.6], [0.6, 0.8]])
    book(latents)
    turned = (latents @ book.entries.T).max(0).values
    assert turned[1] > 0.95  # it stands among the latents, and one of them chose it
    assert book.counts[1] > DEAD


def test_all_entries_come_into_use() -> None:
    """Latents all around a circle, entries all at one point of it: a while later each has its stretch."""
    torch.manual_seed(0)
    book = plain([[1.0, 0.0]] * 8).train()
    for _ in range(300):
        angles = 2 * torch.pi * torch.rand(64)
        book(torch.stack([angles.cos(), angles.sin()], dim=-1))
    angles = torch.arange(800) * (2 * torch.pi / 800)
    used = book.eval().nearest(torch.stack([angles.cos(), angles.sin()], dim=-1)).bincount(minlength=8)
    assert used.min() > 30
    assert used.max() < 250


def test_under_autocast_it_computes_in_float32() -> None:
    torch.manual_seed(0)
    quantiser = ResidualQuantiser(16, 4, 64, 8).eval()
    latents = torch.randn(1, 20, 16)
    expected = quantiser(latents)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantiser(latents)
    assert found.values.dtype == torch.float32
    assert torch.equal(found.values, expected.values)


def test_depths_are_drawn_as_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = draw_depths(20_000, (1, 2, 4, 8), 0.5, generator)
    shares = [float((drawn == depth).float().mean()) for depth in (1, 2, 4, 8)]
    assert shares == pytest.approx([0.125, 0.125, 0.125, 0.625], abs=0.02)
    assert (draw_depths(100, (1, 8), 0.0, generator) == 8).all()
