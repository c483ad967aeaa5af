"""Builders for tests, shipped so that a new task, encoder or stage can be tested without any download.

`tiny_model()` is a whole SpeechLLM of random weights that runs in milliseconds; `tone()` and `babble()` are clips.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechllm.audio.clip import Clip
from speechllm.hearing import LANGUAGES
from speechllm.language.base import Language
from speechllm.language.vocabulary import Vocabulary
from speechllm.model import SpeechLLM, SpeechLLMConfig
from speechllm.readers.attention import Spelling, WhisperConfig, WhisperModel

TINY_WHISPER = WhisperConfig(
    size=32,
    heads=2,
    encoder_layers=2,
    decoder_layers=2,
    feed_forward=64,
    vocabulary=0,
    encoder_positions=1500,
    decoder_positions=64,
)
CONTROL = {
    "gemma": ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
    "chatml": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "whisper": [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in LANGUAGES),
        "<|translate|>",
        "<|transcribe|>",
        "<|notimestamps|>",
    ],
}


def tone(seconds: float = 1.0, hz: float = 440.0, rate: int = 16_000) -> Clip:
    """A sine at half of full scale."""
    return Clip((0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32), rate)


def babble(seconds: float = 1.0, seed: int = 0, rate: int = 16_000) -> Clip:
    """Noise whose loudness changes like that of speech; the same for the same seed."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(round(seconds * rate)).astype(np.float32)
    envelope = np.abs(np.sin(np.arange(len(samples)) / rate * 9 + seed)).astype(np.float32)
    return Clip(0.1 * samples * envelope, rate)


def write_tokenizer(folder: Path, family: str) -> Path:
    """A byte-level tokenizer.json with the control tokens of a family: "gemma", "chatml" or "whisper"."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROL[family]])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def tiny_language(folder: Path, family: str = "gemma", seed: int = 0) -> Path:
    """A random causal LM's folder: "gemma" (Gemma 3) or "chatml" (Llama), 2 layers of width 32."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

    write_tokenizer(folder, family)
    size = Vocabulary(folder).tokenizer.get_vocab_size()
    common: dict[str, Any] = dict(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    if family == "gemma":
        model = Gemma3ForCausalLM(Gemma3TextConfig(**common, head_dim=16, sliding_window=64))
    else:
        model = LlamaForCausalLM(LlamaConfig(**common))
    model.save_pretrained(folder)
    return folder


def tiny_whisper(folder: Path, seed: int = 0) -> Path:
    """A random Whisper's folder, 2 + 2 layers of width 32."""
    from safetensors.torch import save_file

    write_tokenizer(folder, "whisper")
    from tokenizers import Tokenizer

    size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    torch.manual_seed(seed)
    config = WhisperConfig(**{**vars(TINY_WHISPER), "vocabulary": size})
    model = WhisperModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_file(
        {f"model.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "model.safetensors",
    )
    names = {
        "mels": "num_mel_bins",
        "size": "d_model",
        "heads": "encoder_attention_heads",
        "encoder_layers": "encoder_layers",
        "decoder_layers": "decoder_layers",
        "feed_forward": "encoder_ffn_dim",
        "vocabulary": "vocab_size",
        "encoder_positions": "max_source_positions",
        "decoder_positions": "max_target_positions",
    }
    (folder / "config.json").write_text(json.dumps({names[key]: value for key, value in vars(config).items()}))
    return folder


def tiny_model(folder: Path, family: str = "gemma") -> SpeechLLM:
    """A whole model of random weights whose adapters and residual are random too, so that each part matters."""
    reader, base = tiny_whisper(folder / "whisper"), tiny_language(folder / family, family)
    config = SpeechLLMConfig(
        reader_base=str(reader),
        language_base=str(base),
        reader_rank=2,
        reader_alpha=2,
        language_rank=2,
        language_alpha=2,
        first_pass={
            "input_size": 32,
            "size": 16,
            "layers": 1,
            "heads": 2,
            "feed_forward": 32,
            "kernel": 5,
            "dropout": 0.0,
        },
    )
    model = SpeechLLM.on_bases(config)
    torch.manual_seed(1)
    for parameter in model._trained().values():
        torch.nn.init.normal_(parameter.data, std=0.1)
    return model.requires_grad_(False)


def tiny_codec(folder: Path) -> Path:
    """A pocket codec's folder, of random weights: 50 frames a second, 2 codebooks of 16."""
    from speechllm.codecs import pocket
    from speechllm.codecs.spectral import SpectralCodec, SpectralConfig

    torch.manual_seed(2)
    sizes = dict(size=16, inner=32, fine_size=12, fine_inner=24, mels=20, encoder_blocks=1, decoder_blocks=1)
    sizes |= dict(encoder_ahead=3, decoder_ahead=3)
    config = SpectralConfig(**sizes, fine_blocks=1, codebooks=2, codebook_size=16, codebook_width=4)
    pocket.save_model(SpectralCodec(config), folder)
    return folder


def tiny_voice(model: SpeechLLM, folder: Path) -> SpeechLLM:
    """Give a tiny model a voice of random weights, in `folder`/voice; it speaks English and German, and babbles."""
    from speechllm import voice
    from speechllm.acoustic import Acoustic, AcousticConfig
    from speechllm.language.speech import SpeechTokens
    from speechllm.voice_prompt import VoicePrompt

    codec = tiny_codec(folder / "codec")
    acoustic = dict(codebook_size=16, latents=16, size=16, layers=1, heads=2, feed_forward=32, kernel=5, text_width=16)
    voices = {"en": "ann", "de": "ann"}
    config = voice.VoiceConfig(str(codec), layers=1, rank=2, alpha=2, acoustic=acoustic, voices=voices)
    torch.manual_seed(3)
    language = voice.beside(model.language, 1)
    language.add_lora(2, 2)
    for parameter in language.body.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter.data, std=0.1)
    tokens = SpeechTokens(language.size, 16)
    torch.nn.init.constant_(tokens.done.head.bias, -0.5)  # some letters take more than one step
    parts = {"language": language.body, "tokens": tokens, "acoustic": Acoustic(AcousticConfig(**acoustic))}
    codes = torch.randint(16, (2, 50))
    own = VoicePrompt(codes, "hello there", tuple((4 * i + 2, 4 * i + 5) for i in range(11)), "Hello there.")
    voice.save(config, parts, {"ann": own}, folder / "voice")
    model.folder = folder
    return model


def tiny_spelling(folder: Path) -> Spelling:
    """The word pieces of `tiny_whisper`."""
    return Spelling(folder)


__all__ = [
    "Language",
    "babble",
    "tiny_codec",
    "tiny_language",
    "tiny_model",
    "tiny_spelling",
    "tiny_voice",
    "tiny_whisper",
    "tone",
    "write_tokenizer",
]
