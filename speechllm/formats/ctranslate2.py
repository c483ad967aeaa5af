"""CTranslate2's binary model (version 6) of a Whisper, turned into a Hugging Face folder.

Layout: u32 version; text spec name; u32 revision; u32 count; then per tensor: text name, u8 rank, u32
dimensions, u8 type, u32 bytes, data; then aliases, which are not needed here. A text is a u16 length that
counts a closing NUL. CTranslate2 stacks the projections of an attention into one matrix: q|k|v in
self-attention, k|v in cross-attention. Whisper's key projection has no bias, which is stored as zeros and
dropped here.
"""

from __future__ import annotations

import json
import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from speechllm.errors import WeightsError

# CTranslate2's numbers of element types; bfloat16 (5) has no numpy type, and no Whisper in it is known.
ELEMENT_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}

MODULES = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
    "conv1": "conv1",
    "conv2": "conv2",
    "layer_norm": "layer_norm",
    "embeddings": "embed_tokens",
}
STACKED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
PARAMETERS = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}


def read(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a CTranslate2 model by its name in the file, as views into the mapped file.

    Raises WeightsError when the file is of another version or ends too early.
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return dict(_tensors(data))
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path.name} is not a CTranslate2 model of version 6 ({error})") from error


def _tensors(data: mmap.mmap) -> Iterator[tuple[str, np.ndarray]]:
    position = 0

    def number(kind: str) -> int:
        nonlocal position
        (value,) = struct.unpack_from("<" + kind, data, position)
        position += struct.calcsize(kind)
        return value

    def text() -> str:
        nonlocal position
        length = number("H")
        position += length
        return data[position - length : position].rstrip(b"\0").decode()

    version = number("I")
    if version != 6:
        raise ValueError(f"version {version}")
    text()
    number("I")
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype = np.dtype(ELEMENT_TYPES[number("B")])
        length = number("I")
        values = np.frombuffer(data, dtype, length // dtype.itemsize, position)
        position += length
        yield name, values.reshape(shape)


def whisper_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Whisper's tensors under the names of transformers, the stacked ones taken apart."""
    renamed: dict[str, np.ndarray] = {}
    for name, values in tensors.items():
        side, _, rest = name.partition("/")
        layer, rest = _layer(rest)
        prefix = f"model.{side}.{layer}"
        if rest == "position_encodings/encodings":
            renamed[f"{prefix}embed_positions.weight"] = values
            continue
        module, _, parameter = rest.rpartition("/")
        if module in STACKED:
            parts = STACKED[module]
            for part, piece in zip(parts, np.split(values, len(parts)), strict=True):
                if not (part.endswith("k_proj") and parameter == "bias"):
                    renamed[f"{prefix}{part}.{parameter}"] = piece
        elif module in MODULES:
            renamed[f"{prefix}{MODULES[module]}.{PARAMETERS[parameter]}"] = values
    return renamed


def _layer(rest: str) -> tuple[str, str]:
    found = re.match(r"layer_(\d+)/(.*)", rest)
    return (f"layers.{found[1]}.", found[2]) if found else ("", rest)


def whisper_folder(model: Path, tokenizer: Path, facts: Path, folder: Path) -> None:
    """Writes a folder that transformers' Whisper classes load, tensors in the file's own precision.

    model: CTranslate2's model.bin; tokenizer: its tokenizer.json; facts: its config.json (suppressed ids,
    alignment heads).
    """
    from safetensors.numpy import save_file
    from transformers import WhisperFeatureExtractor

    stored = read(model)
    tensors = {name: np.ascontiguousarray(values) for name, values in whisper_tensors(stored).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    extractor = WhisperFeatureExtractor(feature_size=tensors["model.encoder.conv1.weight"].shape[1])
    extractor.save_pretrained(folder)
    words = _tokenizer(tokenizer, vocabulary=len(tensors["model.decoder.embed_tokens.weight"]))
    words.save_pretrained(folder)
    config = _config(tensors, words, heads=int(stored["encoder/num_heads"]))
    config.save_pretrained(folder)
    _generation(config, words, json.loads(facts.read_text("utf-8"))).save_pretrained(folder)


def _config(tensors: Mapping[str, np.ndarray], words, heads: int):
    from transformers import WhisperConfig

    def layers(side: str) -> int:
        return 1 + max(int(n.split(".")[3]) for n in tensors if n.startswith(f"model.{side}.layers."))

    vocabulary, width = tensors["model.decoder.embed_tokens.weight"].shape
    inner = tensors["model.encoder.layers.0.fc1.weight"].shape[0]
    return WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        vocab_size=vocabulary,
        d_model=width,
        num_mel_bins=tensors["model.encoder.conv1.weight"].shape[1],
        encoder_layers=layers("encoder"),
        decoder_layers=layers("decoder"),
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        max_source_positions=tensors["model.encoder.embed_positions.weight"].shape[0],
        max_target_positions=tensors["model.decoder.embed_positions.weight"].shape[0],
        bos_token_id=words.eos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.eos_token_id,
        decoder_start_token_id=words.convert_tokens_to_ids("<|startoftranscript|>"),
        dtype="float16",
    )


def with_all_merges(tokenizer: dict) -> dict:
    """The same tokenizer.json with the first merge of its byte-level BPE, if it was lost.

    Some files of Whisper's were made by a reader that took the first merge for a heading. They decode well,
    but write " the" as three pieces that the model never saw. Merge n makes the token of id 256 + n, so that
    the gap can be seen.
    """
    vocabulary, merges = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
    first = next(token for token, number in vocabulary.items() if number == 256)
    if "".join(pairs[0]) != first and len(first) == 2:
        pairs.insert(0, (first[0], first[1]))
    if any(vocabulary.get("".join(pair)) != 256 + rank for rank, pair in enumerate(pairs)):
        raise WeightsError("the merges of a Whisper tokenizer do not follow its vocabulary")
    return {**tokenizer, "model": {**tokenizer["model"], "merges": [list(pair) for pair in pairs]}}


def _tokenizer(path: Path, vocabulary: int):
    """The file's tokenizer with what transformers expects of it.

    That is every control token named as special, in the order of the ids, and a token for each time that the
    model can write (0.00 s to 30.00 s).
    """
    from tokenizers import Tokenizer
    from transformers import AddedToken, WhisperTokenizer

    end = "<|endoftext|>"
    stored = with_all_merges(json.loads(path.read_text("utf-8")))
    control = [token["content"] for token in stored["added_tokens"] if token["content"] != end]
    words = WhisperTokenizer(
        tokenizer_object=Tokenizer.from_str(json.dumps(stored)),
        bos_token=end,
        eos_token=end,
        unk_token=end,
        pad_token=end,
        extra_special_tokens=control,
    )
    for step in range(vocabulary - len(words)):
        words.add_tokens(AddedToken(f"<|{step * 0.02:.2f}|>", special=False))
    return words


def _generation(config, words, facts: Mapping):
    from transformers import GenerationConfig

    token = words.convert_tokens_to_ids
    languages = {words.convert_ids_to_tokens(i): i for i in facts["lang_ids"]}
    return GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        max_length=config.max_target_positions,
        max_initial_timestamp_index=50,
        is_multilingual=True,
        lang_to_id=languages,
        task_to_id={"transcribe": token("<|transcribe|>"), "translate": token("<|translate|>")},
        no_timestamps_token_id=token("<|notimestamps|>"),
        prev_sot_token_id=token("<|startofprev|>"),
        suppress_tokens=facts["suppress_ids"],
        begin_suppress_tokens=facts["suppress_ids_begin"],
        alignment_heads=facts["alignment_heads"],
        task="transcribe",
        return_timestamps=False,
    )
