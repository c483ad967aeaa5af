"""The stage `acoustic`: what the model may read, rows by number, what learns and what stands still."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from speechllm import acoustic
from speechllm.acoustic import Acoustic, AcousticConfig, progress
from speechllm.codecs.pocket import PocketCodec
from speechllm.codecs.spectral import SpectralCodec, SpectralConfig
from speechllm.errors import DataError
from speechllm.text_encoder import numbers
from speechllm.training.acoustic import AcousticLearner, AcousticOptions, Batch, Rows, padded
from speechllm.training.loop import Schedule
from speechllm.woven import edges, labels, spread

CONFIG = AcousticConfig(codebook_size=16, latents=12, size=16, layers=1, heads=2, feed_forward=32, kernel=3)
HOP = 4  # samples a frame of the rows below
OPTIONS = AcousticOptions(
    Schedule(1), ("toy",), batch=6, frames=60, prompt_frames=(6, 20), unprompted=0.0, unlettered=0.0, uncoded=0.0,
    unnamed=0.0, wrong=0.5, crop_frames=16, judged_frames=8, depths=(1, 2, 3),
)  # fmt: skip


# The model


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


# Rows


class Voiced:
    """Rows whose first codebook counts frames from 1000 times the row's number on, and whose samples do too."""

    def __init__(self, *frames: int) -> None:
        self.frames = frames

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        frames, text = self.frames[row], TEXTS[row]["text"]
        first = 1000 * row + torch.arange(frames)
        starts = torch.arange(len(text)) * frames // len(text)
        return {
            "codes": torch.stack([first, first % 7, first % 5]).to(torch.int16),
            "spans": torch.stack([starts + 1, starts + 3], 1).to(torch.int16),
            "samples": first.to(torch.int16).repeat_interleave(HOP),
            "heights": torch.where(first % 5 > 0, first / 1000, torch.nan).half(),
        }


FRAMES = (50, 40, 90, 70)
TEXTS = [
    {"text": text, "corpus": "toy", "speaker": name, "lang": "de"}
    for text, name in zip(("A cat", "sat up", "oh my", "so long"), "aabb", strict=True)
]


def rows(options: AcousticOptions = OPTIONS, frames: tuple[int, ...] = FRAMES) -> Rows:
    return Rows(TEXTS, Voiced(*frames), options, HOP, 9999)


def test_a_batch_has_one_content_whenever_it_is_asked_for() -> None:
    made = rows()
    first, _, again = made[3], made[4], rows()[3]
    for name, value in vars(first).items():
        same = getattr(again, name)
        assert torch.equal(value, same) if isinstance(value, Tensor) else value == same, name
    assert not torch.equal(first.starts, made[4].starts)
    assert not torch.equal(first.starts, rows(replace(OPTIONS, seed=1))[3].starts)


def test_rows_have_their_shapes_and_prompts_their_bounds() -> None:
    made, seen = rows(), set()
    for number in range(30):
        batch = made[number]
        longest = int(batch.lengths.max())
        assert batch.codes.shape == (6, 3, longest)
        assert batch.heard.shape == batch.places.shape == (6, longest)
        assert batch.samples.shape == (6, 16 * HOP)
        assert batch.judged.stop - batch.judged.start == 8 * HOP
        assert batch.judged.start >= 0 and batch.judged.stop <= 16 * HOP
        assert (batch.lengths <= 60).all()
        assert (batch.prompts >= 6).all() and (batch.prompts <= 20).all()
        assert (batch.prompts <= batch.lengths // 2).all()
        assert (batch.starts >= batch.prompts).all() and (batch.starts + 16 <= batch.lengths).all()
        assert set(batch.depths.tolist()) <= {0, 1, 2, 3}
        seen |= set(batch.depths.tolist())
    assert seen == {0, 1, 2, 3}


def test_some_codes_after_the_prompt_are_those_of_another_place_of_the_row() -> None:
    made, wrong, all_of_them = rows(), 0, 0
    for number in range(30):
        batch = made[number]
        for row, (length, prompt) in enumerate(zip(batch.lengths.tolist(), batch.prompts.tolist(), strict=True)):
            real, heard = batch.codes[row, 0, :length], batch.heard[row, :length]
            assert torch.equal(real[:prompt], heard[:prompt])
            assert set(heard.tolist()) <= set(real.tolist())
            wrong += int((real != heard).sum())
            all_of_them += length - prompt
    assert wrong / all_of_them == pytest.approx(0.25, abs=0.05)  # of a share drawn from 0 to 0.5
    exact = rows(replace(OPTIONS, wrong=0.0))[0]
    assert torch.equal(exact.heard, exact.codes[:, 0])
    made = rows(replace(OPTIONS, said=1.0))
    made.voiced = [{**Voiced(*FRAMES)[row], "said": torch.full((frames,), 55)} for row, frames in enumerate(FRAMES)]
    batch = made[0]
    for row, (length, prompt) in enumerate(zip(batch.lengths.tolist(), batch.prompts.tolist(), strict=True)):
        assert torch.equal(batch.heard[row, :prompt], batch.codes[row, 0, :prompt])
        assert (batch.heard[row, prompt:length] == 55).all()
    untold = rows(replace(OPTIONS, uncoded=1.0))[0]
    for row, (length, prompt) in enumerate(zip(untold.lengths.tolist(), untold.prompts.tolist(), strict=True)):
        assert torch.equal(untold.heard[row, :prompt], untold.codes[row, 0, :prompt])
        assert (untold.heard[row, prompt:length] == 9999).all()


def test_samples_and_letters_belong_to_their_frames() -> None:
    made, voiced = rows(), Voiced(*FRAMES)
    letters = {}
    for row, text in enumerate(TEXTS):
        said = text["text"].lower()
        bounds = edges(said, voiced[row]["spans"].tolist(), FRAMES[row])
        letters |= {1000 * row + frame: label for frame, label in enumerate(spread(labels(said), bounds))}
    for number in range(10):
        batch = made[number]
        for row, start in enumerate(batch.starts.tolist()):
            real = batch.codes[row, 0]
            assert torch.equal((batch.samples[row, ::HOP] * 32767).round().long(), real[start : start + 16])
            length = int(batch.lengths[row])
            assert batch.labels[row, batch.places[row, :length]].tolist() == [
                letters[code] for code in real[:length].tolist()
            ]


def test_a_row_is_of_one_speaker() -> None:
    made = rows(replace(OPTIONS, frames=120))
    speakers = [
        {int(code) // 1000 // 2 for code in codes[0, : int(length)]}
        for number in range(10)
        for codes, length in zip(made[number].codes, made[number].lengths, strict=True)
    ]
    assert all(len(each) == 1 for each in speakers)
    assert {0, 1} == set().union(*speakers)


def test_shares_of_rows_without_prompt_letters_or_real_codes() -> None:
    bare = rows(replace(OPTIONS, unprompted=1.0, unlettered=1.0, real=0.0, unnamed=1.0))[0]
    assert not bare.prompts.any() and not bare.depths.any() and not bare.languages.any()
    assert all((places[:length] == -1).all() for places, length in zip(bare.places, bare.lengths, strict=True))
    assert (rows()[0].languages == numbers(["de"])).all()
    real = rows(replace(OPTIONS, real=1.0, depth_share=0.0))[0]
    assert (real.depths == 3).all()


def test_groups_too_short_for_a_prompt_and_a_crop_are_left_out() -> None:
    made = rows(frames=(20, 7, 90, 70))
    assert all(sum((20, 7, 90, 70)[i] for i in group) >= 16 + 2 * 6 for group in made.groups)
    for few, options in (((5, 5, 5, 5), OPTIONS), (FRAMES, replace(OPTIONS, frames=20))):
        with pytest.raises(DataError, match="28 frames"):
            rows(options, few)


def test_samples_are_as_long_as_their_codes() -> None:
    assert padded(torch.arange(10), 3, 4).tolist() == [*range(10), 0, 0]
    assert padded(torch.arange(13), 3, 4).tolist() == list(range(12))


# The learner


@pytest.fixture
def learner() -> AcousticLearner:
    torch.manual_seed(0)
    sizes = dict(size=12, inner=24, fine_size=8, fine_inner=16, mels=16, encoder_blocks=1, decoder_blocks=1)
    sizes |= dict(encoder_ahead=3, decoder_ahead=3, fine_blocks=1)
    codec = SpectralCodec(SpectralConfig(**sizes, codebooks=3, codebook_size=16, codebook_width=4))
    return AcousticLearner(Acoustic(CONFIG), PocketCodec(codec, "tiny").model, 16).train()


def batch_of(rows: int = 2, frames: int = 40, depths: tuple[int, ...] = (0, 2)) -> Batch:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(16, (rows, 3, frames), generator=generator)
    labels = torch.randint(1, 16, (rows, 9), generator=generator)
    places = torch.randint(-1, 9, (rows, frames), generator=generator)
    count = torch.full((rows,), 1)
    return Batch(
        codes, codes[:, 0], labels, places, count, frames * count - torch.arange(rows),
        torch.rand(rows, 9, 2, generator=generator), 0.5 * count, 8 * count, torch.arange(rows) % 2 == 0, 10 * count,
        torch.tensor(depths), torch.zeros(rows, 16 * 320), slice(0, 8 * 320), None,
    )  # fmt: skip


def said(learner: AcousticLearner, batch: Batch) -> Tensor:
    """What is told of each frame's letter."""
    letters = learner.acoustic.text(batch.labels, batch.languages)
    return learner.acoustic.spread(learner.acoustic.sing(letters, batch.pitches), batch.places)


def test_the_decoder_and_the_model_learn_and_the_codebooks_do_not(learner: AcousticLearner) -> None:
    learner.measure(batch_of().codes)
    before = {name: each.clone() for name, each in learner.quantiser.state_dict().items()}
    made, figures = learner(batch_of())
    assert made.shape == (2, 16 * 320)
    (made.square().mean() + figures["latent"] + figures["pitch"]).backward()
    for part in (learner.acoustic, learner.decoder):
        lacking = [
            name for name, each in part.named_parameters() if each.grad is None or not each.grad.isfinite().all()
        ]
        assert not lacking
        assert any(each.grad.abs().max() > 0 for each in part.parameters() if each.grad is not None)
    assert not any(each.requires_grad or each.grad is not None for each in learner.quantiser.parameters())
    assert not learner.quantiser.training and learner.decoder.training
    assert all(torch.equal(each, before[name]) for name, each in learner.quantiser.state_dict().items())


def test_the_error_is_in_deviations_after_the_prompt(learner: AcousticLearner) -> None:
    batch = batch_of()
    learner.measure(batch.codes)
    real = learner.quantiser.decode(batch.codes)
    flat = real.flatten(0, 1)
    assert torch.allclose(learner.acoustic.mean, flat.mean(0), atol=1e-6)
    assert torch.allclose(learner.acoustic.deviation, flat.std(0), atol=1e-6)
    letters, prompts = said(learner, batch), batch.prompts * torch.tensor([1, 0])  # the first row alone is refitted
    refit = learner.acoustic.refit(batch.heard[:, :8], letters[:, :8], real[:, :8], prompts)
    found = learner.acoustic(batch.heard, letters, batch.lengths, real, batch.prompts, refit)
    errors = [
        F.mse_loss(found[row, 8:length] / flat.std(0), real[row, 8:length] / flat.std(0), reduction="none").mean(-1)
        for row, length in enumerate(batch.lengths.tolist())
    ]
    _, figures = learner(batch)
    assert figures["latent"].item() == pytest.approx(torch.cat(errors).mean().item(), rel=1e-4)


def test_the_moments_are_those_of_each_rows_wanted_frames(learner: AcousticLearner) -> None:
    """Twice as wide and one deviation higher in the first row, where frames are wanted; the second row is right."""
    learner.acoustic.deviation.uniform_(0.5, 2)
    real, wanted = torch.randn(2, 30, 12), torch.zeros(2, 30, dtype=torch.bool)
    wanted[0, 10:20] = wanted[1, 5:] = True
    spread = real[0, 10:20].std(0, correction=0)
    mean = real[0, 10:20].mean(0)
    found = torch.randn(2, 30, 12)
    found[1, 5:] = real[1, 5:].flip(0)
    found[0, 10:20] = (real[0, 10:20] - mean) * 2 + mean + learner.acoustic.deviation
    expected = (1 + (spread / learner.acoustic.deviation).mean()) / 2
    assert learner._moments(found, real, wanted).item() == pytest.approx(expected.item(), rel=1e-3)


def test_sound_is_made_of_what_was_predicted_or_of_real_codes_by_depth(learner: AcousticLearner) -> None:
    learner.eval()
    batch = replace(batch_of(4, depths=(0, 1, 2, 3)), refitted=torch.zeros(4, dtype=torch.bool))
    with torch.no_grad():
        made, _ = learner(batch)
        real = learner.quantiser.decode(batch.codes)
        found = learner.acoustic(batch.heard, said(learner, batch), batch.lengths, real, batch.prompts)
        assert torch.allclose(made[0], learner.decoder(found[:1, 10:26])[0], atol=1e-5)
        for row, depth in enumerate((1, 2, 3), start=1):
            coarse = learner.quantiser.decode(batch.codes[row : row + 1, :depth])
            assert torch.allclose(made[row], learner.decoder(coarse[:, 10:26])[0], atol=1e-5)


def test_two_rows_are_learned_by_heart(learner: AcousticLearner) -> None:
    batch: Any = batch_of(depths=(0, 0))
    learner.measure(batch.codes)
    optimizer = torch.optim.Adam(learner.acoustic.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        _, figures = learner(batch)
        optimizer.zero_grad()
        figures["latent"].backward()
        optimizer.step()
        losses.append(figures["latent"].item())
    assert losses[-1] < 0.5 * losses[0]
