"""GGUF files of Gemma 3 and Llama models, dequantised and turned into a Hugging Face folder in bfloat16.

llama.cpp stores Gemma's norms as `1 + weight`, and Llama's query and key rows reordered for its own rotary
embedding (`LlamaModel.permute` of its convert_hf_to_gguf.py); both are undone here. The tensors are those of
the quantised file: close to the published ones, not equal to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from speechllm.errors import WeightsError

ROWS = 16384  # rows of a matrix dequantised at once: keeps a 262144-row embedding from existing whole in fp32

TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BLOCK = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
BLOCK_NORMS = {
    "gemma3": {
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    "llama": {"ffn_norm": "post_attention_layernorm"},
}


def tensor_name(name: str, architecture: str) -> str:
    """transformers' name of a tensor of a GGUF file ("blk.3.attn_q.weight"); WeightsError if unknown."""
    stem, _, kind = name.rpartition(".")
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    _, layer, part = stem.split(".", 2) if stem.startswith("blk.") else ("", "", stem)
    module = BLOCK_NORMS[architecture].get(part) or BLOCK.get(part)
    if module is None:
        raise WeightsError(f"a GGUF file of a {architecture} model holds an unknown tensor {name!r}")
    return f"model.layers.{layer}.{module}.{kind}"


def rotary_order(rows: np.ndarray, heads: int) -> np.ndarray:
    """Query or key rows (heads*D, H), from llama.cpp's order (pairs side by side) to halves apart."""
    outputs, inputs = rows.shape
    return rows.reshape(heads, outputs // heads // 2, 2, inputs).swapaxes(1, 2).reshape(outputs, inputs)


def folder_from_gguf(path: Path, folder: Path) -> None:
    """Writes configuration, model.safetensors (bfloat16) and tokenizer, as transformers loads them.

    Raises WeightsError for an architecture other than gemma3 and llama.
    """
    from transformers import AutoTokenizer

    _write_model(path, folder)  # its memory is free again before the tokenizer's 262144 pieces are read
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)


def _write_model(path: Path, folder: Path) -> None:
    from gguf import GGUFReader
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    reader = GGUFReader(path)
    fields = reader.fields.items()
    facts = {key: field.contents() for key, field in fields if not key.startswith("tokenizer.ggml.t")}
    architecture = facts["general.architecture"]
    if architecture not in BLOCK_NORMS:
        raise WeightsError(f"{path.name} holds a {architecture} model; Gemma 3 and Llama can be read")
    tensors = _tensors(reader, facts, architecture)
    vocabulary = tensors["model.embed_tokens.weight"].shape[0]
    config = _config(facts, architecture, vocabulary, tied="lm_head.weight" not in tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    ids = {key: getattr(config, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    GenerationConfig(**ids).save_pretrained(folder)


def _tensors(reader, facts: Mapping, architecture: str) -> dict:
    import torch
    from gguf import dequantize

    heads = {"attn_q": facts[f"{architecture}.attention.head_count"]}
    heads["attn_k"] = facts[f"{architecture}.attention.head_count_kv"]
    result = {}
    for tensor in reader.tensors:
        pieces = []
        for start in range(0, len(tensor.data), ROWS):
            values = np.array(dequantize(tensor.data[start : start + ROWS], tensor.tensor_type), np.float32)
            if architecture == "gemma3" and tensor.name.endswith("norm.weight"):
                values -= 1
            part = tensor.name.split(".")[-2]
            if architecture == "llama" and part in heads:
                values = np.ascontiguousarray(rotary_order(values, heads[part]))
            pieces.append(torch.from_numpy(values).to(torch.bfloat16))
        result[tensor_name(tensor.name, architecture)] = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
    return result


def _config(facts: Mapping, architecture: str, vocabulary: int, tied: bool):
    from transformers import Gemma3TextConfig, LlamaConfig

    def fact(key: str, default=None):
        return facts.get(f"{architecture}.{key}", default)

    width, heads = fact("embedding_length"), fact("attention.head_count")
    rope = {"rope_type": "default", "rope_theta": fact("rope.freq_base", 10000.0)}
    shared: dict[str, Any] = dict(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=fact("feed_forward_length"),
        num_hidden_layers=fact("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=fact("attention.head_count_kv"),
        head_dim=fact("attention.key_length", width // heads),
        max_position_embeddings=fact("context_length"),
        # stored as fp32 of a decimal constant: give the constant back
        rms_norm_eps=float(f"{fact('attention.layer_norm_rms_epsilon'):.6g}"),
        tie_word_embeddings=tied,
        bos_token_id=facts.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=facts.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=facts.get("tokenizer.ggml.padding_token_id"),
        dtype="bfloat16",
    )
    if architecture == "llama":
        return LlamaConfig(architectures=["LlamaForCausalLM"], rope_parameters=rope, **shared)
    # the file lacks the scale of the queries and the rotary base of the sliding windows: Gemma 3's own values
    local = {"rope_type": "default", "rope_theta": 10000.0}
    return Gemma3TextConfig(
        architectures=["Gemma3ForCausalLM"],
        query_pre_attn_scalar=shared["head_dim"],
        sliding_window=fact("attention.sliding_window"),
        rope_parameters={"full_attention": rope, "sliding_attention": local},
        **shared,
    )
