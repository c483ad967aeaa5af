"""Whisper in CTranslate2's binary: written here from a tiny transformers model, which is the oracle."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizer

from speechllm.errors import WeightsError
from speechllm.formats import ctranslate2

CONTROL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
CONTROL += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
MERGES = [("Ġ", "t"), ("h", "e"), ("Ġt", "he")]
TIMES = 5


def build_tokenizer(merges=MERGES) -> Tokenizer:
    """256 bytes, three merges, the control tokens: Whisper's order of ids."""
    # an order of the bytes of one's own: the ids below 256 do not matter here
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(merge) for merge in MERGES]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, CONTROL[0]])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    return tokenizer


@pytest.fixture(scope="module")
def whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    size = build_tokenizer().get_vocab_size() + TIMES
    config = WhisperConfig(
        vocab_size=size,
        d_model=16,
        num_mel_bins=8,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=20,
        max_target_positions=12,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=1,
        decoder_start_token_id=2,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = WhisperForConditionalGeneration(config)
    for parameter in model.parameters():  # norms and biases too are to be told apart
        torch.nn.init.normal_(parameter, std=0.3)
    return model.half()


def stored_tensors(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """What CTranslate2's own converter makes of a model: names of its specification, projections stacked."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors = {"encoder/num_heads": np.array(2, np.int16), "decoder/activation": np.array(1, np.int8)}

    def put(name: str, source: str, norm: bool = False) -> None:
        for ours, theirs in zip(("gamma", "beta") if norm else ("weight", "bias"), ("weight", "bias"), strict=True):
            tensors[f"{name}/{ours}"] = state[f"model.{source}.{theirs}"]

    def stack(name: str, source: str, parts: str) -> None:
        for kind in ("weight", "bias"):
            zero = np.zeros(16, np.float16)  # Whisper's key projection has no bias
            rows = [state.get(f"model.{source}.{part}_proj.{kind}", zero) for part in parts]
            tensors[f"{name}/{kind}"] = np.concatenate(rows)

    for side in ("encoder", "decoder"):
        tensors[f"{side}/position_encodings/encodings"] = state[f"model.{side}.embed_positions.weight"]
        put(f"{side}/layer_norm", f"{side}.layer_norm", norm=True)
        for n in range(2):
            here, there = f"{side}/layer_{n}", f"{side}.layers.{n}"
            put(f"{here}/self_attention/layer_norm", f"{there}.self_attn_layer_norm", norm=True)
            stack(f"{here}/self_attention/linear_0", f"{there}.self_attn", "qkv")
            put(f"{here}/self_attention/linear_1", f"{there}.self_attn.out_proj")
            put(f"{here}/ffn/layer_norm", f"{there}.final_layer_norm", norm=True)
            put(f"{here}/ffn/linear_0", f"{there}.fc1")
            put(f"{here}/ffn/linear_1", f"{there}.fc2")
            if side == "decoder":
                put(f"{here}/attention/layer_norm", f"{there}.encoder_attn_layer_norm", norm=True)
                stack(f"{here}/attention/linear_0", f"{there}.encoder_attn", "q")
                stack(f"{here}/attention/linear_1", f"{there}.encoder_attn", "kv")
                put(f"{here}/attention/linear_2", f"{there}.encoder_attn.out_proj")
    put("encoder/conv1", "encoder.conv1")
    put("encoder/conv2", "encoder.conv2")
    tensors["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    return tensors


def binary(tensors: dict[str, np.ndarray]) -> bytes:
    """CTranslate2's version 6 of these tensors."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    kinds = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    out = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(tensors))
    for name, values in tensors.items():
        shape = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        out += text(name) + shape + struct.pack("<BI", kinds[str(values.dtype)], values.nbytes) + values.tobytes()
    return out + struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight")


def convert(model, folder: Path, merges=MERGES) -> Path:
    tokenizer = build_tokenizer(merges)
    languages = [tokenizer.token_to_id(token) for token in ("<|en|>", "<|de|>")]
    facts = {
        "lang_ids": languages,
        "suppress_ids": [1],
        "suppress_ids_begin": [3],
        "alignment_heads": [[1, 0]],
    }
    (folder / "model.bin").write_bytes(binary(stored_tensors(model)))
    (folder / "facts.json").write_text(json.dumps(facts))
    tokenizer.save(str(folder / "words.json"))
    made = folder / "made"
    made.mkdir()
    ctranslate2.whisper_folder(folder / "model.bin", folder / "words.json", folder / "facts.json", made)
    return made


def test_the_folder_is_the_model_it_came_from(whisper, tmp_path):
    made = convert(whisper, tmp_path)
    loaded, facts = WhisperForConditionalGeneration.from_pretrained(made, output_loading_info=True)
    assert not facts["missing_keys"]
    assert not facts["unexpected_keys"]
    assert loaded.dtype == torch.float16
    for name, tensor in whisper.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)
    features, ids = torch.randn(1, 8, 40), torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        answers = [model.float().eval()(features, decoder_input_ids=ids).logits for model in (loaded, whisper)]
    whisper.half()
    torch.testing.assert_close(*answers)
    generation = loaded.generation_config
    assert generation.lang_to_id["<|de|>"] == build_tokenizer().token_to_id("<|de|>")
    assert generation.task_to_id["transcribe"] == build_tokenizer().token_to_id("<|transcribe|>")
    assert generation.decoder_start_token_id == build_tokenizer().token_to_id("<|startoftranscript|>")


def test_the_tokenizer_knows_control_tokens_and_times(whisper, tmp_path):
    words = WhisperTokenizer.from_pretrained(convert(whisper, tmp_path))
    plain = build_tokenizer()
    assert len(words) == whisper.config.vocab_size
    assert words("a the he", add_special_tokens=False).input_ids == plain.encode("a the he").ids
    first = words.convert_tokens_to_ids("<|0.00|>")
    assert first == words.all_special_ids[-1] + 1 == plain.get_vocab_size()
    control = [plain.token_to_id(token) for token in ("<|startoftranscript|>", "<|de|>", "<|notimestamps|>")]
    ids = [*control, first, *plain.encode(" the").ids, first + 1]
    assert words.decode(ids, skip_special_tokens=True) == " the"


def test_a_lost_first_merge_is_found_again(whisper, tmp_path):
    assert len(build_tokenizer(MERGES[1:]).encode(" the").ids) > 1
    words = WhisperTokenizer.from_pretrained(convert(whisper, tmp_path, MERGES[1:]))
    assert words(" the", add_special_tokens=False).input_ids == build_tokenizer().encode(" the").ids


def test_merges_that_do_not_fit_their_vocabulary_are_refused():
    tokenizer = json.loads(build_tokenizer().to_str())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][::-1]
    with pytest.raises(WeightsError, match="merges"):
        ctranslate2.with_all_merges(tokenizer)


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:40], lambda b: b"\7" + b[1:], lambda b: b"x"]
)
def test_a_damaged_binary_is_one_line(whisper, tmp_path, damage):
    path = tmp_path / "model.bin"
    path.write_bytes(damage(binary(stored_tensors(whisper))))
    with pytest.raises(WeightsError, match="model.bin is not a CTranslate2 model"):
        ctranslate2.read(path)
