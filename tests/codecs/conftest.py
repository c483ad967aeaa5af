"""Tiny codecs of random weights, written to folders as a hub's snapshot has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

ENCODEC = {
    "sampling_rate": 8000,
    "target_bandwidths": [3.0, 6.0, 12.0],  # 2, 4 and 8 codebooks at 250 Hz and 6 bits
    "num_filters": 4,
    "hidden_size": 8,
    "codebook_size": 64,
    "upsampling_ratios": [4, 4, 2],
}
CONFIGS: dict[str, Any] = {
    "encodec": lambda: transformers.EncodecConfig(**ENCODEC),
    # like facebook/encodec_32khz: convolutions that look both ways, one bandwidth
    "encodec, both ways": lambda: transformers.EncodecConfig(
        **{**ENCODEC, "target_bandwidths": [6.0], "use_causal_conv": False}
    ),
    "encodec, norm over time": lambda: transformers.EncodecConfig(**ENCODEC, norm_type="time_group_norm"),
    "mimi": lambda: transformers.MimiConfig(
        sampling_rate=8000,
        num_filters=4,
        hidden_size=16,
        upsampling_ratios=[5, 4],
        codebook_size=64,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_quantizers=6,
        upsample_groups=16,
        num_hidden_layers=2,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=7,
        layer_scale_initial_scale=1.0,
    ),
    # odd strides, as in descript/dac_24khz: the model gives fewer samples than its frames stand for
    "dac": lambda: transformers.DacConfig(
        sampling_rate=8000,
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4, 5],
        decoder_hidden_size=32,
        n_codebooks=5,
        codebook_size=64,
        codebook_dim=4,
    ),
}
MODELS = {"encodec": "EncodecModel", "mimi": "MimiModel", "dac": "DacModel"}


def build(name: str) -> Any:
    """The transformers model of a configuration, its codebooks filled: they are zero where training begins."""
    torch.manual_seed(0)
    model = getattr(transformers, MODELS[name.split(",")[0]])(CONFIGS[name]()).eval()
    spread = torch.full((), 0.1)
    if name.startswith("encodec"):  # around what its encoder gives, or one code would be the nearest always
        with torch.inference_mode():
            latents = model.encoder(torch.randn(1, 1, 4000) * 0.3)[0]
        spread = latents.std(dim=1).clone()
        model.state_dict()["quantizer.layers.0.codebook.embed"].add_(latents.mean(dim=1))
    for key, tensor in model.state_dict().items():
        if key.endswith(("codebook.embed", "codebook.embed_sum")):
            tensor.add_(torch.randn_like(tensor) * spread)
    return model


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a configuration to the folder with its weights."""
    made = {}
    for name in CONFIGS:
        made[name] = tmp_path_factory.mktemp("codec")
        build(name).save_pretrained(made[name])
    return made
