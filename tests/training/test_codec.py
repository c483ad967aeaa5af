"""The codec's stage: losses by hand, batches by number, a kill that changes nothing, and a codec that comes out."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from accelerate import Accelerator
from torch import Tensor, nn

from speechllm import codecs
from speechllm.codecs.pocket import PocketCodec
from speechllm.errors import DataError
from speechllm.testing import babble, tiny_whisper
from speechllm.training import checkpoint, codec_losses, recipe
from speechllm.training.adversarial import fit
from speechllm.training.codec import CodecOptions, Learner, Stretches
from speechllm.training.codec_losses import Discriminators, Distillation, MelDistance
from speechllm.training.loop import Schedule

SIZES = dict(size=16, inner=32, fine_size=12, fine_inner=24, mels=20, codebooks=3, codebook_size=16, codebook_width=4)
MODEL = {**SIZES, "encoder_blocks": 2, "decoder_blocks": 2, "fine_blocks": 1}
SCHEDULE = Schedule(steps=8, lr=3e-3, warmup=2, save_every=3, log_every=2)
OPTIONS = CodecOptions(
    SCHEDULE,
    ("toy",),
    MODEL,
    batch=3,
    crop_seconds=0.4,
    depths=(1, 3),
    judged_from=4,
    judged_ramp=2,
    judged_seconds=0.2,
    judged_channels=(4, 8),
)


def sounds(*seconds: float) -> list[dict[str, Tensor]]:
    clips = [torch.from_numpy(babble(each, seed).samples) for seed, each in enumerate(seconds)]
    return [{"samples": (clip * 32767).to(torch.int16)} for clip in clips]


def hidden(*seconds: float) -> list[dict[str, Tensor]]:
    return [{"hidden": torch.randn(math.ceil(each * 50), 8, generator=torch.Generator())} for each in seconds]


def train(folder: Path, options: CodecOptions = OPTIONS, until: int | None = None) -> Learner:
    """A run on two clips, in float32; `until`: killed when it asks for that batch."""
    stretches: Any = Stretches(sounds(1.0, 0.3), hidden(1.0, 0.3), options)
    if until is not None:

        class Killed:
            def __getitem__(self, number: int) -> Any:
                if number == until:
                    raise KeyboardInterrupt
                return whole[number]

        whole, stretches = stretches, Killed()
    torch.manual_seed(0)
    learner = Learner(options.config(), 8)
    fit(stretches, learner, 16_000, options, folder, Accelerator(cpu=True))
    return learner


def lines(folder: Path) -> list[dict]:
    return [json.loads(row) for row in (folder / "log.jsonl").read_text().splitlines()]


# Losses


def test_mel_distance_is_in_nepers() -> None:
    distance, real = MelDistance(16_000), torch.randn(2, 8000)
    assert float(distance(real, real)) == 0
    assert float(distance(2 * real, real)) == pytest.approx(math.log(2), abs=0.01)
    assert float(distance(torch.zeros_like(real), real)) > 3


def test_mel_distance_does_not_count_what_nobody_hears() -> None:
    assert float(MelDistance(16_000)(1e-6 * torch.randn(1, 8000), torch.zeros(1, 8000))) < 0.02


def test_mel_distance_has_the_slope_of_its_differences() -> None:
    torch.manual_seed(0)
    distance, real = MelDistance(16_000, {256: 20, 64: 8}), 0.05 * torch.randn(1, 1000)
    made = torch.randn(1, 1000, requires_grad=True)
    distance(made, real).backward()
    slope = made.grad
    assert slope is not None
    for direction in (slope / slope.norm(), (slope / slope.norm()).roll(1) + slope / slope.norm()):
        with torch.no_grad():
            ahead, behind = (distance(made + 0.05 * sign * direction, real) for sign in (1, -1))
        assert float((slope * direction).sum()) == pytest.approx(float(ahead - behind) / 0.1, rel=0.02)


def test_silence_and_short_waveforms_have_finite_slopes() -> None:
    for samples in (100, 4000):
        made = torch.zeros(1, samples, requires_grad=True)
        MelDistance(16_000)(made, torch.randn(1, samples)).backward()
        assert made.grad is not None
        assert torch.isfinite(made.grad).all()


def test_hinge_and_matching_by_hand() -> None:
    real = [(torch.tensor([2.0, 0.5]), [torch.tensor([1.0, -3.0])])]
    made = [(torch.tensor([-2.0, 0.0]), [torch.tensor([2.0, -3.0])])]
    assert float(codec_losses.discriminator_loss(real, made)) == pytest.approx(0.25 + 0.5)
    assert float(codec_losses.adversarial_loss(made)) == pytest.approx(2.0)
    assert float(codec_losses.matching_loss(real, made)) == pytest.approx(0.5 / 2.0)


def test_discriminators_see_every_window_and_no_loudness() -> None:
    torch.manual_seed(0)
    judges, samples = Discriminators((512, 128), (4, 8)), 0.1 * torch.randn(2, 4000)
    found = judges(samples)
    assert [len(features) for _, features in found] == [3, 3]
    for (score, features), window in zip(found, (512, 128), strict=True):
        assert score.shape[:2] == (2, 1)
        assert score.shape[2:] == features[-1].shape[2:]
        assert score.shape[2] == 1 + (4000 - window) // (window // 4)
    for (score, _), (other, _) in zip(found, judges(3 * samples), strict=True):
        assert torch.allclose(score, other, atol=1e-4)


def test_discriminators_learn_to_tell() -> None:
    torch.manual_seed(0)
    judges = Discriminators((256,), (4, 8))
    optimizer = torch.optim.Adam(judges.parameters(), lr=0.01)
    tone = torch.sin(torch.arange(4000) * 0.3)[None]
    losses = []
    for _ in range(40):
        loss = codec_losses.discriminator_loss(judges(tone), judges(torch.randn(1, 4000)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_distillation_is_the_cosine_of_the_frames_that_are_given() -> None:
    distillation = Distillation(3, 3)
    nn.init.eye_(distillation.project.weight)
    nn.init.zeros_(distillation.project.bias)
    first = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [5.0, 5.0, 5.0]]])
    features = torch.tensor([[[3.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
    assert float(distillation(first, features).detach()) == pytest.approx((0 + 1 - math.sqrt(0.5)) / 2)
    assert float(distillation(first, torch.zeros_like(features)).detach()) == 0


# Batches


def test_a_batch_has_one_content_whenever_it_is_asked_for() -> None:
    stretches = Stretches(sounds(1.0, 0.3), hidden(1.0, 0.3), OPTIONS)
    first, again = stretches[7], Stretches(sounds(1.0, 0.3), hidden(1.0, 0.3), OPTIONS)[7]
    assert torch.equal(first.samples, again.samples)
    assert torch.equal(first.depths, again.depths)
    assert first.judged == again.judged
    assert not torch.equal(first.samples, stretches[8].samples)
    assert first.samples.shape == (3, 6400)
    assert first.features is not None
    assert first.features.shape == (3, 20, 8)
    assert first.judged.stop - first.judged.start == 3200


def test_features_belong_to_the_samples_of_their_frames() -> None:
    """Samples that count frames, and features that do: both say where a stretch begins."""
    frames = torch.arange(200)
    counting = [{"samples": (frames * 100).repeat_interleave(320).to(torch.int16)}]
    features = [{"hidden": frames[:, None].float().repeat(1, 2)}]
    stretches = Stretches(counting, features, replace(OPTIONS, gain=0.0))
    for number in range(5):
        batch = stretches[number]
        assert batch.features is not None
        numbers = batch.features[..., 0] * stretches.deviation[0] + stretches.mean[0]
        assert torch.allclose(batch.samples[:, ::320] * 32767 / 100, numbers, atol=1e-2)


def test_two_features_make_one_frame_at_25_hz() -> None:
    options = replace(OPTIONS, model={**MODEL, "hop": 640}, gain=0.0)
    frames = torch.arange(200)
    counting = [{"samples": (frames * 100).repeat_interleave(320).to(torch.int16)}]
    stretches = Stretches(counting, [{"hidden": frames[:, None].float()}], options)
    batch = stretches[0]
    assert batch.features is not None
    assert batch.features.shape == (3, 10, 1)
    numbers = batch.features[..., 0] * stretches.deviation[0] + stretches.mean[0]
    assert torch.allclose(batch.samples[:, ::640] * 32767 / 100 + 0.5, numbers, atol=1e-2)


def test_a_short_recording_is_followed_by_silence() -> None:
    stretches = Stretches(sounds(0.11), hidden(0.11), OPTIONS)
    batch = stretches[0]
    assert batch.features is not None
    assert batch.samples[:, 1760:].abs().max() == 0
    assert batch.samples[:, :1760].abs().max() > 0
    assert batch.features[:, 6:].abs().max() == 0


def test_every_second_is_as_likely_and_loudness_stays_in_bounds() -> None:
    loud = [
        {"samples": torch.full((length,), level, dtype=torch.int16)}
        for length, level in ((48_000, 3000), (16_000, 9000))
    ]
    stretches = Stretches(loud, None, replace(OPTIONS, gain=0.0))
    levels = torch.cat([stretches[number].samples[:, 0] for number in range(400)]) * 32767
    assert float((levels < 5000).float().mean()) == pytest.approx(0.75, abs=0.04)
    louder = Stretches(loud, None, replace(OPTIONS, gain=20.0))
    peaks = torch.cat([louder[number].samples.amax(1) for number in range(100)])
    assert peaks.max() <= 1.0
    assert peaks.max() > 0.9
    assert peaks.min() < 0.02


def test_no_recordings_are_refused() -> None:
    with pytest.raises(DataError, match="no recordings"):
        Stretches([], None, OPTIONS)


# Training


def test_a_few_steps_overfit(tmp_path: Path) -> None:
    schedule = Schedule(steps=150, lr=5e-3, warmup=5, save_every=150, log_every=10)
    train(tmp_path, replace(OPTIONS, schedule=schedule, judged_from=1000))
    first, *_, last = lines(tmp_path)
    assert last["mel"] < 0.7 * first["mel"]
    assert last["loss"] < first["loss"]
    assert "adversarial" not in last


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", until=7)
    assert checkpoint.newest_step(tmp_path / "cut") == 6
    resumed = train(tmp_path / "cut")
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name
    states = [checkpoint.newest(tmp_path / run) for run in ("whole", "cut")]
    assert all(state is not None and state[0] == 8 for state in states)
    first, second = (state[1]["judges"]["module"] for state in states if state is not None)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_discriminators_come_in_at_their_step(tmp_path: Path) -> None:
    train(tmp_path)
    rows = lines(tmp_path)
    assert ["judges" in row for row in rows] == [False, False, True, True]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    three, six = (
        torch.load(tmp_path / f"step-000000{step}" / "state.pt", weights_only=True)["judges"]["module"]
        for step in (6, 8)
    )
    assert not all(torch.equal(tensor, six[name]) for name, tensor in three.items())


def test_the_teacher_is_followed_as_weighted(tmp_path: Path) -> None:
    for weight in (0.0, 50.0):
        train(tmp_path / str(weight), replace(OPTIONS, distillation=weight, judged_from=1000))
    unheeded, followed = (lines(tmp_path / str(weight))[-1]["distillation"] for weight in (0.0, 50.0))
    assert followed < unheeded


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(DataError, match="does not fit this recipe; use a new run folder"):
        train(tmp_path, replace(OPTIONS, model={**MODEL, "size": 24}))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch": 0}, "a batch needs a stretch"),
        ({"crop_seconds": 0.001}, "a stretch a frame"),
        ({"depths": (1, 9)}, r"depths are numbers from 1 to the 3 codebooks, not \[1, 9\]"),
        ({"depths": (1,)}, "depths must name the 3 codebooks too"),
        ({"model": {"sizes": 3}}, "model, unknown field 'sizes'"),
        ({"model": {**MODEL, "hop": 800}}, "with a teacher, hop is a multiple of 320"),
        ({"judged_channels": (4,)}, "two layers or more"),
    ],
)
def test_options_that_cannot_be(changed: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(OPTIONS, **changed)


def test_a_run_makes_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "speech" / "toy"
    folder.mkdir(parents=True)
    rows = []
    for seed in range(3):
        clip = babble(0.5 + seed / 4, seed)
        soundfile.write(folder / f"{seed}.wav", clip.samples, clip.rate)
        rows.append({"audio": f"{seed}.wav", "text": "a", "lang": "en", "split": "train" if seed else "eval"})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setenv("SPEECHLLM_DATA", str(tmp_path / "data"))
    options = replace(OPTIONS, teacher=str(tiny_whisper(tmp_path / "whisper")), teacher_source=None)
    written = tmp_path / "toy.yaml"
    written.write_text(yaml.safe_dump({"codec": json.loads(json.dumps(asdict(options)))}))
    made = recipe.run(written, tmp_path / "run")
    codec = codecs.load(made)
    assert isinstance(codec, PocketCodec)
    clip = babble(0.5)
    codes = codec.encode(clip)
    assert codes.shape == (3, 25)
    assert len(codec.decode(codes).samples) == 25 * 320
    before = (made / "model.safetensors").read_bytes()
    assert recipe.run(tmp_path / "run") == made  # goes on: there is nothing left to do
    assert (made / "model.safetensors").read_bytes() == before
