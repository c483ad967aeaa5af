"""The Conformer under every policy: equal to its truncated input, to its row alone, and to the equations."""

import pytest
import torch
import torch.nn.functional as F

from speechllm.encoders.conformer import Conformer, ConformerConfig, depthwise, rotary_angles, rotate
from speechllm.encoders.masks import FULL_HISTORY, OFFLINE, AttentionPolicy, limited_history, look_ahead
from speechllm.errors import DataError

LAYERS = 3
POLICIES = {
    "offline": OFFLINE,
    "full history": FULL_HISTORY,
    "limited history": limited_history(5),
    "small look-ahead": look_ahead(8, left=12),
    "small look-ahead, short history": look_ahead(4, left=2),
    "right context": AttentionPolicy(left=3, right=1),
    "chunks of the future": AttentionPolicy(left=3, right=None, chunk=4),
}
FRONTS = {
    "stack by 2": ("stack", 2),
    "stack by 3": ("stack", 3),
    "strided by 4": ("strided", 4),
    "every frame": ("strided", 1),
}


def conformer(front: str = "stack", subsampling: int = 2, **sizes) -> Conformer:
    torch.manual_seed(0)
    sizes = {"size": 32, "layers": LAYERS, "heads": 2, "feed_forward": 64, **sizes}
    return Conformer(ConformerConfig(input_size=20, subsampling=subsampling, front=front, **sizes)).eval()


def random_features(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(lengths), max(lengths), 20, generator=generator), torch.tensor(lengths)


@pytest.fixture(params=FRONTS, scope="module")
def model(request):
    return conformer(*FRONTS[request.param])


@torch.no_grad()
@pytest.mark.parametrize("name", POLICIES)
def test_masked_forward_equals_forward_on_the_truncated_input(model, name):
    policy, subsampling = POLICIES[name], model.config.subsampling
    features, lengths = random_features(101)
    whole, out_lengths = model(features, lengths, policy)
    for frame in {0, 3, 7, 8, 20, int(out_lengths[0]) - 1}:
        if frame >= out_lengths[0]:
            continue
        horizon = policy.horizon(frame, LAYERS)
        end = 101 if horizon is None else min(101, (horizon + 1) * subsampling)
        truncated, _ = model(features[:, :end], torch.tensor([end]), policy)
        torch.testing.assert_close(whole[0, frame], truncated[0, frame], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in POLICIES if POLICIES[name].right is not None])
def test_the_horizon_is_used_up_to_its_last_frame(name):
    model, policy = conformer(), POLICIES[name]
    features, lengths = random_features(101)
    horizon = policy.horizon(9, LAYERS)
    changed = features.clone()
    changed[:, 2 * horizon + 1] *= -1.0
    difference = model(changed, lengths, policy)[0][0, 9] - model(features, lengths, policy)[0][0, 9]
    assert difference.abs().max() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", POLICIES)
def test_a_row_does_not_depend_on_its_batch_or_on_what_pads_it(model, name):
    features, lengths = random_features(61, 100, 1, 37)
    features[0, 61:], features[3, 37:] = torch.nan, torch.inf
    hidden, out_lengths = model(features, lengths, POLICIES[name])
    for row, length in enumerate(lengths.tolist()):
        alone, out_length = model(features[row : row + 1, :length], lengths[row : row + 1], POLICIES[name])
        assert out_length[0] == out_lengths[row] == alone.shape[1]
        torch.testing.assert_close(hidden[row, : out_lengths[row]], alone[0], atol=1e-5, rtol=0)
        assert not hidden[row, out_lengths[row] :].any()


@torch.no_grad()
def test_one_frame_and_no_frame(model):
    hidden, lengths = model(*random_features(4, 0))
    assert lengths[1] == 0 and not hidden[1].any() and torch.isfinite(hidden).all()


def test_lengths_and_frame_rate():
    features, lengths = random_features(9, 8)
    hidden, out_lengths = conformer()(features, lengths)
    assert hidden.shape == (2, 5, 32) and out_lengths.tolist() == [5, 4]
    hidden, out_lengths = conformer("strided", 4)(features, lengths)
    assert hidden.shape == (2, 3, 32) and out_lengths.tolist() == [3, 2]
    assert conformer().frame_rate == 25.0
    assert Conformer(ConformerConfig(80, front="strided", subsampling=4, input_rate=100.0)).frame_rate == 25.0


def test_default_size_for_whisper_features():
    parameters = sum(p.numel() for p in Conformer(ConformerConfig(512)).parameters())
    assert 6.0e6 < parameters < 7.0e6


def test_depthwise_is_the_sum_over_permitted_taps():
    """y[t] = bias + sum over s that the policy lets t see of w[s - t + half] x[s]."""
    generator = torch.Generator().manual_seed(2)
    hidden, weight = torch.randn(2, 6, 23, generator=generator), torch.randn(6, 1, 7, generator=generator)
    bias = torch.randn(6, generator=generator)
    for policy in POLICIES.values():
        within = AttentionPolicy(policy.left, policy.right and 0, policy.chunk).mask(23)
        expected = bias[None, :, None].repeat(2, 1, 23)
        for t in range(23):
            for s in range(max(0, t - 3), min(23, t + 4)):
                if within[t, s]:
                    expected[:, :, t] += weight[:, 0, s - t + 3] * hidden[:, :, s]
        torch.testing.assert_close(depthwise(hidden, weight, bias, policy), expected, atol=1e-5, rtol=1e-5)
    ordinary = F.conv1d(hidden, weight, bias, padding=3, groups=6)
    torch.testing.assert_close(depthwise(hidden, weight, bias, OFFLINE), ordinary)


def test_rotary_scores_depend_on_distance_alone():
    cos, sin = rotary_angles(50, 16, torch.device("cpu"))
    query, key = torch.randn(2, 16, generator=torch.Generator().manual_seed(3)).unbind()
    queries, keys = rotate(query.expand(50, 16), cos, sin), rotate(key.expand(50, 16), cos, sin)
    scores = queries @ keys.T
    for distance in (-30, -1, 0, 1, 12):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)
    assert scores[0, 1:].std() > 0.1


@pytest.mark.parametrize("name", POLICIES)
def test_every_weight_learns_under_every_policy(name):
    model = conformer().train()
    hidden, _ = model(*random_features(60, 41), POLICIES[name])
    (hidden.square() * torch.arange(32)).mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@torch.no_grad()
def test_bfloat16_autocast_stays_close():
    model, (features, lengths) = conformer(), random_features(60, 41)
    for policy in POLICIES.values():
        expected, _ = model(features, lengths, policy)
        with torch.autocast("cpu", torch.bfloat16):
            hidden, _ = model(features, lengths, policy)
        assert (hidden.float() - expected).abs().max() < 0.15


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 30, "heads": 4},
        {"kernel": 14},
        {"front": "mel"},
        {"subsampling": 0},
        {"front": "strided", "subsampling": 3},
    ],
)
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(DataError, match="conformer"):
        ConformerConfig(20, **wrong)


def test_shapes_are_asserted():
    features, lengths = random_features(9, 8)
    with pytest.raises(AssertionError):
        conformer()(features[..., :19], lengths)
    with pytest.raises(AssertionError):
        conformer()(features, lengths[:1])


@torch.no_grad()
def test_a_style_scales_and_shifts_the_input_of_each_block():
    model, (features, lengths) = conformer(), random_features(60, 41)
    plain, _ = model(features, lengths)
    nothing = torch.zeros(LAYERS, 2, 2, 1, 32)
    assert torch.equal(model(features, lengths, style=nothing)[0], plain)
    for layer in range(LAYERS):
        for kind in (0, 1):
            style = nothing.clone()
            style[layer, kind, 1] = torch.linspace(-0.5, 0.5, 32)  # norms take away what is the same everywhere
            styled, _ = model(features, lengths, style=style)
            assert torch.equal(styled[0], plain[0]) and not torch.allclose(styled[1, :20], plain[1, :20], atol=1e-3)
