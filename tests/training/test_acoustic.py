"""The stage `acoustic`: rows by number, what learns and what stands still."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from speechllm.acoustic import Acoustic, AcousticConfig
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
