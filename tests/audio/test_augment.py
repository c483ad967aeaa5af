"""SpecAugment: masks within their bounds, and the same for the same generator."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from speechllm.audio.augment import spec_augment


@given(frames=st.integers(0, 200), seed=st.integers(0, 1000))
def test_spec_augment_masks_whole_frames_and_bands_within_their_bounds(frames: int, seed: int) -> None:
    features = torch.randn(frames, 80, generator=torch.Generator().manual_seed(seed))
    before = features.clone()
    masked = spec_augment(features, torch.Generator().manual_seed(seed))
    assert torch.equal(features, before)
    assert torch.equal(masked, spec_augment(features, torch.Generator().manual_seed(seed)))
    changed = masked != features
    if frames:
        whole_frames = int(changed.all(1).sum())
        whole_bands = int(changed.all(0).sum())
        assert whole_frames <= 2 * int(0.1 * frames)
        assert whole_bands <= 32
        rest = changed[~changed.all(1)][:, ~changed.all(0)]
        assert not rest.any()
