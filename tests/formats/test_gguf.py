"""GGUF files, written here from tiny transformers models as llama.cpp does; the models are the oracle."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, LlamaConfig

from speechllm.errors import WeightsError
from speechllm.formats.gguf import folder_from_gguf, rotary_order, tensor_name

PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
PIECES += ["▁", "a", "b", "t", "h", "e", "th", "the", "▁the", "ab"]
SHAPE = {"vocab_size": len(PIECES), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 128}
SHAPE |= {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
ROPE = {"rope_type": "default", "rope_theta": 1e6}
GEMMA = Gemma3TextConfig(
    **SHAPE,
    sliding_window=8,
    query_pre_attn_scalar=32,
    rope_parameters={
        "full_attention": ROPE,
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
)
LLAMA = LlamaConfig(**SHAPE, rope_parameters=ROPE, tie_word_embeddings=True)


def build_model(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.to(torch.bfloat16).eval()


def write_gguf(model, path: Path, architecture: str, quantised: bool = False) -> None:
    """The file that llama.cpp's convert_hf_to_gguf.py makes, with its two changes to the tensors."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(ROPE["rope_theta"])
    if architecture == "gemma3":
        writer.add_sliding_window(config.sliding_window)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(PIECES)
    writer.add_token_scores([-float(number) for number in range(len(PIECES))])
    writer.add_token_types([3] * 4 + [6] * 256 + [1] * (len(PIECES) - 260))
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(3)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        values = tensor.float().numpy()
        if architecture == "gemma3" and name.endswith("norm.weight"):
            values = values + 1
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if architecture == "llama" and part in name:
                rows = values.reshape(heads, 2, values.shape[0] // heads // 2, values.shape[1])
                values = rows.swapaxes(1, 2).reshape(values.shape)
        stored = names.get_name(name, try_suffixes=(".weight",))
        if quantised and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(stored, gguf.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
        else:
            writer.add_tensor(stored, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def convert(model, folder: Path, architecture: str, quantised: bool = False) -> Path:
    write_gguf(model, folder / "model.gguf", architecture, quantised)
    made = folder / "made"
    made.mkdir()
    folder_from_gguf(folder / "model.gguf", made)
    return made


@pytest.mark.parametrize(("config", "architecture"), [(GEMMA, "gemma3"), (LLAMA, "llama")])
def test_the_folder_is_the_model_it_came_from(config, architecture, tmp_path):
    model = build_model(config)
    made = convert(model, tmp_path, architecture)
    loaded, facts = AutoModelForCausalLM.from_pretrained(made, output_loading_info=True)
    assert not facts["missing_keys"]
    assert not facts["unexpected_keys"]
    assert loaded.dtype == torch.bfloat16
    for name, tensor in model.state_dict().items():
        if name.endswith("norm.weight"):  # 1 + weight, then - 1 in fp32
            torch.testing.assert_close(loaded.state_dict()[name], tensor)
        else:
            assert torch.equal(loaded.state_dict()[name], tensor), name
    ids = torch.arange(4, 24)[None]  # longer than the sliding window
    with torch.no_grad():
        answers = [each.float()(ids).logits for each in (model, loaded)]
    torch.testing.assert_close(*answers, atol=2e-3, rtol=2e-3)
    words = AutoTokenizer.from_pretrained(made)
    assert (words.bos_token_id, words.eos_token_id) == (2, 1)
    assert words.decode(words("the ab", add_special_tokens=False).input_ids).strip() == "the ab"


def test_quantised_tensors_come_back_within_their_step(tmp_path):
    model = build_model(GEMMA)
    loaded = AutoModelForCausalLM.from_pretrained(convert(model, tmp_path, "gemma3", quantised=True))
    for name, tensor in model.state_dict().items():
        step = tensor.float().abs().max() / 127  # of 8 bits over the largest value of a block
        torch.testing.assert_close(loaded.state_dict()[name].float(), tensor.float(), atol=float(step), rtol=0.01)


def test_rotary_order_undoes_llama_cpp():
    rows = np.arange(48.0).reshape(16, 3)
    stored = rows.reshape(2, 2, 4, 3).swapaxes(1, 2).reshape(16, 3)
    assert (rotary_order(stored, heads=2) == rows).all()
    assert (stored != rows).any()


def test_an_unknown_tensor_or_architecture_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="blk.0.surprise.weight"):
        tensor_name("blk.0.surprise.weight", "llama")
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "falcon")
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(WeightsError, match="falcon"):
        folder_from_gguf(tmp_path / "model.gguf", tmp_path)
