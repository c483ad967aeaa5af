"""The acoustic model: what it reads, how it is fitted to a voice, and what it fills in."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from speechllm import acoustic
from speechllm.acoustic import Acoustic, AcousticConfig, progress
from speechllm.text_encoder import PhonemeHead
from speechllm.woven import labels

CONFIG = AcousticConfig(codebook_size=16, latents=12, size=16, layers=1, heads=2, feed_forward=32, kernel=3)


@pytest.fixture
def model() -> Acoustic:
    torch.manual_seed(0)
    made = Acoustic(CONFIG).eval()
    for parameter in (made.is_prompt, made.mean, made.deviation):
        torch.nn.init.uniform_(parameter.data, 0.5, 1.5)
    return made


def drawn(rows: int, frames: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, letters and latents of rows."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(16, (rows, frames), generator=generator)
    said, latents = (torch.randn(rows, frames, width, generator=generator) for width in (16, 12))
    return codes, said, latents


LENGTH, PROMPT = torch.tensor([12]), torch.tensor([4])


def test_latents_are_read_in_the_prompt_alone(model: Acoustic) -> None:
    codes, letters, latents = drawn(1, 12)
    found = model(codes, letters, LENGTH, latents, PROMPT)
    other = latents.clone()
    other[:, 4:] += 1
    assert torch.equal(model(codes, letters, LENGTH, other, PROMPT), found)
    other = latents.clone()
    other[:, 3] += 1
    assert (model(codes, letters, LENGTH, other, PROMPT) - found)[:, 4:].abs().amax(-1).min() > 1e-4


def test_letters_of_no_phoneme_are_silent() -> None:
    """Letters that stand alone in their vectors, and a head that spells nothing for "h"."""
    assert not any(Acoustic(CONFIG).is_silent(labels("h h"), "en"))  # it has not learned to read
    model = Acoustic(replace(CONFIG, signs=2, text_width=16, text_layers=1)).eval()
    text, head = model.text, model.phonemes
    assert head is not None
    with torch.no_grad():
        for each in (text.letters, text.languages, text.convolutions[0], head.project):
            each.weight.zero_()
        text.convolutions[0].bias.zero_()
        text.out.weight.copy_(torch.eye(16))
        text.out.bias.zero_()
        head.project.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 1.0]))
        text.letters.weight[labels("h")[1], 3] = 1
        head.project.weight[[0, 3], 3] = 5.0
    said = "ah h hah"
    wanted = [letter == "h" and place != 3 for place, letter in enumerate(said)]  # a word is not silent as a whole
    assert model.is_silent(labels(said), "en") == [False, *wanted, False]
    assert model.sounds(labels("ah"), "en")[1:3] == [(1, 2), ()]


def test_sounds_are_signs_that_begin_and_no_marks() -> None:
    """Scores that are given: of three letters, in places of which the second begins nothing new."""
    head = PhonemeHead(4, signs=3, marks=(2,))
    scores = torch.zeros(1, 3, 2, 4)
    scores[0, [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1], [1, 3, 3, 2, 0, 3]] = 1.0
    head.forward = lambda letters: scores
    assert head.sounds(torch.zeros(1, 3, 4)).tolist() == [[[1, 3], [0, 0], [0, 3]]]


def test_codes_and_letters_are_read_everywhere(model: Acoustic) -> None:
    codes, letters, latents = drawn(1, 12)
    found = model(codes, letters, LENGTH, latents, PROMPT)
    for place in (0, 8):
        other = codes.clone()
        other[0, place] = (other[0, place] + 1) % 16
        assert not torch.equal(model(other, letters, LENGTH, latents, PROMPT)[:, 4:], found[:, 4:])
        other = letters.clone()
        other[0, place] += 1
        assert not torch.equal(model(codes, other, LENGTH, latents, PROMPT)[:, 4:], found[:, 4:])


def test_a_voice_is_heard_in_each_frame_whatever_attention_does(model: Acoustic) -> None:
    """Its style scales and shifts what each block reads; without a voice it is finite, and at the start nothing."""
    codes, letters, latents = drawn(1, 12)
    known, is_prompt = latents, (torch.arange(12) < 4)[None, :, None]
    assert not model.timbre(known, is_prompt).any()
    torch.nn.init.uniform_(model.timbre.style.weight, -0.3, 0.3)
    for block in model.conformer.blocks:
        torch.nn.init.zeros_(block.attention.merge.weight)  # type: ignore[union-attr]
    torch.nn.init.zeros_(model.speaker.weight)
    found = model(codes, letters, LENGTH, latents, PROMPT)
    other = latents.clone()
    other[:, :4] += 1
    changed = (model(codes, letters, LENGTH, other, PROMPT) - found).abs().amax(-1)
    assert changed[0, 4:].min() > 1e-4
    style = model.timbre(known, is_prompt)
    assert style.shape == (1, 2, 1, 1, 16)
    other = latents.clone()
    other[:, 4:] += 1
    assert torch.equal(model.timbre(other, is_prompt), style)
    assert torch.allclose(model.timbre(latents[:, [2, 0, 3, 1, *range(4, 12)]], is_prompt), style, atol=1e-6)
    assert model(codes, letters, LENGTH, latents, torch.tensor([0])).isfinite().all()


def test_progress_counts_within_each_letter() -> None:
    places = torch.tensor([[0, 0, 0, 0, 1, 2, 2, 5], [7, 7, 7, 7, 7, 7, 7, 7]])
    before, after, length = progress(places).unbind(-1)
    assert before[0].tolist() == [0.125, 0.375, 0.625, 0.875, 0.5, 0.25, 0.75, 0.5]
    assert torch.equal(before + after, torch.ones_like(before))
    assert length.exp().round().tolist() == [[4, 4, 4, 4, 1, 2, 2, 1], [8] * 8]


def test_how_high_a_letter_is_counts_where_it_is_voiced(model: Acoustic) -> None:
    letters = torch.randn(1, 3, 16)
    pitch = torch.tensor([[[0.0, 0.7], [0.5, 0.7], [-1.0, 0.7]]])
    found = model.sing(letters, pitch) - letters
    assert torch.allclose(found[0, 0], found[0, 2])
    assert torch.allclose(found[0, 1], model.sung(torch.tensor([0.5, 0.35])), atol=1e-6)


def test_what_is_said_is_the_letter_and_its_progress(model: Acoustic) -> None:
    letters, places = torch.randn(1, 3, 16), torch.tensor([[0, 0, 2, -1, -1]])
    found = model.spread(letters, places)
    told = model.progress(progress(places))
    assert torch.allclose(found[0, :3], letters[0, [0, 0, 2]] + told[0, :3])
    assert not found[0, 3:].any()


def test_padding_changes_nothing(model: Acoustic) -> None:
    codes, letters, latents = drawn(2, 12)
    both = model(codes, letters, torch.tensor([12, 7]), latents, torch.tensor([2, 3]))
    alone = model(codes[1:, :7], letters[1:, :7], torch.tensor([7]), latents[1:, :7], torch.tensor([3]))
    assert torch.allclose(both[1, :7], alone[0], atol=1e-5)


def test_filling_is_the_pass_over_all_without_the_voice(model: Acoustic) -> None:
    codes, letters, latents = drawn(1, 12)
    whole = model(codes, letters, LENGTH, latents, PROMPT)[0]
    assert torch.equal(model.fill(codes[0], letters[0], latents[0, :4]), whole[4:])
    alone = model.fill(codes[0], letters[0], latents[0, :0])
    assert alone.shape == (12, 12)
    assert torch.equal(alone, model(codes, letters, LENGTH, torch.zeros_like(latents), torch.tensor([0]))[0])


def test_what_a_voice_lacks_is_a_ridge_regression_of_the_frames(model: Acoustic) -> None:
    """By the normal equations: each half of the prompt as it is predicted after the other one, by letters alone."""
    codes, said, latents = drawn(1, 30)
    refit = model.refit(codes, said, latents, torch.tensor([30]))
    halves = []
    for part, other in ((slice(15, 30), slice(0, 15)), (slice(0, 15), slice(15, 30))):
        told = torch.cat([codes[:, other], torch.full((1, 15), 16)], 1)
        both = [torch.cat([each[:, other], each[:, part]], 1) for each in (said, latents)]
        halves.append(model._frames(told, both[0], torch.tensor([30]), both[1], torch.tensor([15]))[0, 15:])
    x = torch.cat([halves[1], halves[0]])
    z = ((latents[0] - model.mean) / model.deviation).numpy().astype(float)
    x, predicted = x.detach().numpy().astype(float), model.out(x).detach().numpy().astype(float)
    x0, y0 = x - x.mean(0), (z - predicted) - (z - predicted).mean(0)
    weight = np.linalg.solve(x0.T @ x0 + acoustic.RIDGE * np.square(x0).sum() * np.eye(16), x0.T @ y0)
    assert np.allclose(refit.weight[0].detach(), weight, atol=1e-4)
    wider = np.sqrt((z.var(0) + acoustic.LEAST) / ((predicted + x0 @ weight).var(0) + acoustic.LEAST))
    frames, plain = torch.randn(5, 16), torch.randn(5, 12)
    moved = plain.numpy() + (frames.numpy() - x.mean(0)) @ weight + (z - predicted).mean(0)
    expected = (moved - z.mean(0)) * wider + z.mean(0)
    assert np.allclose(refit(plain[None], frames[None])[0].detach(), expected, atol=1e-4)


def test_a_new_voice_is_fitted_further(model: Acoustic) -> None:
    codes, said, latents = drawn(1, 30)
    known, new = (model.refit(codes, said, latents, torch.tensor([30]), is_new=is_new) for is_new in (False, True))
    assert new.weight.norm() > 1.1 * known.weight.norm()
    assert torch.equal(new.lacking, known.lacking)
    with torch.no_grad():
        model.ridge += math.log(acoustic.LENIENT)
    lenient = model.refit(codes, said, latents, torch.tensor([30]))
    assert torch.allclose(new.weight, lenient.weight, atol=1e-5)
    assert torch.allclose(new.wider - 1, acoustic.WIDER * (lenient.wider - 1), atol=1e-5)


def test_what_is_refitted_has_mean_and_spread_of_the_prompt(model: Acoustic) -> None:
    codes, said, latents = drawn(1, 60)
    latents = latents * 3 - 2
    refit = model.refit(codes, said, latents, torch.tensor([60]))
    new = model.refit(codes, said, latents, torch.tensor([60]), is_new=True)
    assert refit.echo is None and new.echo is not None
    assert torch.allclose(new.echo.mean(1), latents.mean(1), atol=1e-4)
    found = model(codes, said, torch.tensor([60]), torch.zeros_like(latents), torch.tensor([0]), refit)[0]
    ours, theirs = (found - found.mean(0)).std(0), latents[0].std(0)
    plain = model(codes, said, torch.tensor([60]), torch.zeros_like(latents), torch.tensor([0]))[0].std(0)
    assert (ours / theirs).log().abs().mean() < 0.5 * (plain / theirs).log().abs().mean()


def test_a_refit_is_each_rows_own_and_without_a_prompt_nothing(model: Acoustic) -> None:
    codes, said, latents = drawn(3, 40)
    all_of = model.refit(codes, said, latents, torch.tensor([40, 31, 0]))
    alone = model.refit(codes[1:2, :31], said[1:2, :31], latents[1:2, :31], torch.tensor([31]))
    frames, plain = torch.randn(3, 7, 16), torch.randn(3, 7, 12)
    assert torch.allclose(all_of(plain, frames)[1], alone(plain[1:2], frames[1:2])[0], atol=1e-5)
    assert torch.equal(all_of(plain, frames)[2], plain[2])
    assert (all_of(plain, frames)[0] - plain[0]).abs().max() > 1e-3


def test_a_refit_voice_is_predicted_better(model: Acoustic) -> None:
    """Latents that are a linear map of the frames, which the output layer does not know."""
    codes, said, latents = drawn(1, 80)
    untold = torch.full_like(codes, 16)
    prompt, length = torch.tensor([60]), torch.tensor([80])
    strange = model(untold, said, length, torch.zeros_like(latents), torch.tensor([0])).detach() * 3 - 1
    plain, refit = (
        model(codes, said, length, strange, prompt, each)[:, 60:]
        for each in (None, model.refit(codes[:, :60], said[:, :60], strange[:, :60], prompt))
    )
    errors = [(found - strange[:, 60:]).square().mean() for found in (plain, refit)]
    assert errors[1] < 0.5 * errors[0]


def test_what_is_predicted_has_the_scale_of_the_latents(model: Acoustic) -> None:
    codes, letters, latents = drawn(1, 12)
    found = model(codes, letters, LENGTH, latents, PROMPT)
    torch.nn.init.zeros_(model.out.weight)
    torch.nn.init.zeros_(model.out.bias)
    assert torch.allclose(model(codes, letters, LENGTH, latents, PROMPT), model.mean.expand_as(found))
