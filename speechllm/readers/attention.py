"""The second pass: Whisper's attention decoder, reading frames of a clip's true length (Radford et al. 2022, §2.2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.encoders.whisper import Attention, WhisperConfig, WhisperEncoder
from speechllm.errors import WeightsError
from speechllm.int8 import Int8Rows, pack_linear
from speechllm.readers import beam


class DecoderLayer(nn.Module):
    """Pre-norm causal self-attention, attention to the frames, feed-forward."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.size, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.size)
        self.encoder_attn = Attention(config.size, config.heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.size)
        self.fc1 = nn.Linear(config.size, config.feed_forward)
        self.fc2 = nn.Linear(config.feed_forward, config.size)
        self.final_layer_norm = nn.LayerNorm(config.size)

    def forward(self, hidden: Tensor, frames: tuple[Tensor, Tensor], mask: Tensor | None, past: list | None) -> Tensor:
        normed = self.self_attn_layer_norm(hidden)
        keys, values = self.self_attn.keys_values(normed)
        if past is not None:
            if past:
                keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
            past[:] = keys, values
        causal = hidden.shape[1] > 1
        hidden = hidden + self.self_attn.attend(normed, keys, values, None, causal)
        normed = self.encoder_attn_layer_norm(hidden)
        if frames[0].shape[0] < hidden.shape[0]:  # beams of one clip: as many queries, so its frames are read once
            hidden = hidden + self.encoder_attn.attend(normed.transpose(0, 1), *frames, mask).transpose(0, 1)
        else:
            hidden = hidden + self.encoder_attn.attend(normed, *frames, mask)
        return hidden + self.fc2(F.gelu(self.fc1(self.final_layer_norm(hidden))))


@dataclass
class DecoderState:
    """What a decoder keeps between steps: keys and values of the frames and of the tokens so far."""

    frames: list[tuple[Tensor, Tensor]]
    mask: Tensor | None
    past: list[list]
    position: int = 0

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows (N,) int of the tokens so far, in this order; a row may be taken several times."""
        for pair in self.past:
            pair[:] = [each.index_select(0, rows) for each in pair]


class WhisperDecoder(nn.Module):
    """Tokens so far and frames to the logits of the next token.

    Limit: the rows of one call stand at the same position, so prompts are of equal length and unpadded.
    """

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.size)
        self.embed_positions = nn.Embedding(config.decoder_positions, config.size)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.layer_norm = nn.LayerNorm(config.size)
        self.head: Int8Rows | None = None

    def pack(self) -> None:
        """Keep the weights that a step reads in 8 bits from here on; the products with all frames stay as they are."""
        for layer in self._blocks():
            pack_linear(layer, keep=(layer.encoder_attn.k_proj, layer.encoder_attn.v_proj))
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.float()
        self.embed_positions.float()
        self.head = Int8Rows(self.embed_tokens.weight)

    def begin(self, hidden: Tensor, lengths: Tensor) -> DecoderState:
        """Project the frames hidden (B, T, D) once for all steps; lengths (B,) masks their padding."""
        kept = torch.arange(hidden.shape[1], device=hidden.device) < lengths.unsqueeze(1)
        mask = None if bool(kept.all()) else kept[:, None, None, :]
        dtype = self.embed_positions.weight.dtype
        frames = [_as(dtype, *layer.encoder_attn.keys_values(hidden)) for layer in self._blocks()]
        return DecoderState(frames, mask, [[] for _ in self.layers])

    def _blocks(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def forward(self, ids: Tensor, state: DecoderState, keep_past: bool = True) -> Tensor:
        """Read ids (B, N) int after what the state holds; returns hidden states (B, N, D) before the output rows."""
        assert ids.ndim == 2, ids.shape
        assert state.position == 0 or ids.shape[1] == 1, "after the prompt one token a step"
        end = state.position + ids.shape[1]
        hidden = self.embed_tokens(ids) + self.embed_positions.weight[state.position : end]
        for layer, frames, past in zip(self.layers, state.frames, state.past, strict=False):
            hidden = layer(hidden, frames, state.mask, past if keep_past else None)
        if keep_past:
            state.position = end
        return self.layer_norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Output rows are the input embeddings: (…, D) -> (…, vocabulary)."""
        return F.linear(hidden, self.embed_tokens.weight) if self.head is None else self.head(hidden)


def _as(dtype: torch.dtype, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """In a dtype, and in an order of memory that a single query reads fastest."""
    return keys.to(dtype).contiguous(), values.to(dtype).contiguous()


class WhisperModel(nn.Module):
    """Encoder and decoder of one Whisper checkpoint."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = WhisperEncoder(config)
        self.decoder = WhisperDecoder(config)

    def forward(self, features: Tensor, lengths: Tensor, ids: Tensor) -> Tensor:
        """Teacher forcing: features (B, T, mels), lengths (B,), ids (B, N) -> the decoder's hidden states (B, N, D)."""
        hidden, lengths = self.encoder(features, lengths)
        return self.decoder(ids, self.decoder.begin(hidden, lengths), keep_past=False)

    @classmethod
    def from_pretrained(cls, folder: Path | str, dtype: torch.dtype = torch.float32) -> WhisperModel:
        """Load the tensors of a Hugging Face Whisper folder (config.json, model.safetensors)."""
        from safetensors.torch import load_file

        folder = Path(folder)
        config = WhisperConfig.from_hub(json.loads((folder / "config.json").read_text()))
        with torch.device("meta"):
            model = cls(config)
        tensors = {
            name.removeprefix("model."): tensor.to(dtype)
            for name, tensor in load_file(folder / "model.safetensors").items()
            if name != "proj_out.weight"
        }
        model.load_state_dict(tensors, assign=True)
        return model.requires_grad_(False).eval()


LORA_TARGETS = r".*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"  # all linear layers of encoder and decoder


class Spelling:
    """Whisper's word pieces and the control tokens of its prompt (tokenizer.json of the checkpoint)."""

    def __init__(self, folder: Path | str) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.start = self._id("<|startoftranscript|>")
        self.end = self._id("<|endoftext|>")
        self.task = self._id("<|transcribe|>")
        self.no_times = self._id("<|notimestamps|>")
        first, last = self.start + 1, self._id("<|translate|>")
        self.languages = {str(self.tokenizer.id_to_token(i))[2:-2]: i for i in range(first, last)}

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise WeightsError(f"the reader's tokenizer has no {token}: this is not a multilingual Whisper checkpoint")
        return found

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, with the leading space that Whisper puts before the first word."""
        return self.tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids if text.strip() else []

    def decode(self, ids: list[int]) -> str:
        """Plain text of ids; control tokens are dropped."""
        return self.tokenizer.decode([i for i in ids if i < self.end], skip_special_tokens=True).strip()

    def prompt(self, language: str) -> list[int]:
        """The control tokens before the first word."""
        return [self.start, self.languages[language], self.task, self.no_times]


class AttentionReader:
    """Reading of whole clips: a batch greedily, or one clip by beam search.

    A reading that has not ended after `10 tokens a second + 16` is cut there: no language is spoken that fast,
    so what follows would be a loop.
    """

    def __init__(self, decoder: WhisperDecoder, spelling: Spelling) -> None:
        self.decoder = decoder
        self.spelling = spelling

    @torch.inference_mode()
    def languages(self, hidden: Tensor, lengths: Tensor, allowed: Sequence[str]) -> list[str]:
        """The most likely of the `allowed` languages for each row of hidden (B, T, D)."""
        ids = torch.full((hidden.shape[0], 1), self.spelling.start, device=hidden.device)
        state = self.decoder.begin(hidden, lengths)
        logits = self.decoder.logits(self.decoder(ids, state)[:, -1])
        choices = torch.tensor([self.spelling.languages[name] for name in allowed], device=hidden.device)
        return [str(allowed[i]) for i in logits[:, choices].argmax(1).tolist()]

    def search(self, hidden: Tensor, lengths: Tensor, language: str, beams: int) -> Spelled:
        """Read one clip's hidden (1, T, D), lengths (1,) by beam search; one beam is greedy."""
        if beams == 1:
            return self.read(hidden, lengths, [language])[0]
        state, limit = self.decoder.begin(hidden, lengths), int(self._limits(lengths))
        found = beam.search(self.decoder, state, self.spelling.prompt(language), self.spelling.end, beams, limit)
        return Spelled(self.spelling.decode(list(found[0].tokens)), language, found[0].tokens)

    def _limits(self, lengths: Tensor, limit: int | None = None) -> Tensor:
        """Most tokens of clips of these lengths (B,) in frames, none above `limit`."""
        limits = (lengths / WhisperEncoder.frame_rate * 10 + 16).long()
        return limits.clamp(max=min(limit or 1 << 30, self.decoder.config.decoder_positions - 4))

    @torch.inference_mode()
    def read(
        self, hidden: Tensor, lengths: Tensor, languages: Sequence[str], limit: int | None = None
    ) -> list[Spelled]:
        """Read each row of hidden (B, T, D), lengths (B,), in its language, to at most `limit` tokens."""
        state = self.decoder.begin(hidden, lengths)
        limits = self._limits(lengths, limit)
        ids = torch.tensor([self.spelling.prompt(language) for language in languages], device=hidden.device)
        rows: list[list[int]] = [[] for _ in languages]
        open_rows = torch.ones(len(languages), dtype=torch.bool)
        for step in range(int(limits.max())):
            logits = self.decoder.logits(self.decoder(ids, state)[:, -1])
            chosen = logits[:, : self.spelling.end + 1].argmax(1)  # what comes after the end are control tokens
            for row, token in enumerate(chosen.tolist()):
                if open_rows[row] and token != self.spelling.end and step < limits[row]:
                    rows[row].append(token)
                else:
                    open_rows[row] = False
            if not open_rows.any():
                break
            ids = chosen[:, None]
        return [
            Spelled(self.spelling.decode(row), language, tuple(row))
            for row, language in zip(rows, languages, strict=True)
        ]


@dataclass(frozen=True)
class Spelled:
    """What the reader wrote for one clip."""

    text: str
    language: str
    tokens: tuple[int, ...]
