"""Any speech encoder of transformers behind the Encoder contract: w2v-BERT, wav2vec 2.0, Parakeet and more.

The encoder's own feature extractor turns clips into features, its own length formula says how many frames
come out, and its frame rate is derived from both. Each clip is prepared alone and padding is masked, so that
a row's frames do not depend on the batch.

Limits: offline only (these encoders have no attention policy of ours), safetensors only, no remote code.
Whisper is not for here: transformers pads it to 30 seconds; `encoders/whisper.py` reads the true length.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoFeatureExtractor, AutoModel, PreTrainedModel

from speechllm.audio.clip import Clip
from speechllm.encoders.conformer import valid_frames
from speechllm.errors import WeightsError

SHORTEST = 0.1  # seconds; shorter clips get silence behind them, to fill the convolutions' first window
LENGTH_FORMULAS = ("_get_feat_extract_output_lengths", "_get_subsampling_output_length")


class HubEncoder(nn.Module):
    """`(features (B, T, F) float, lengths (B,) int) -> (hidden (B, T', D) float, lengths (B,))`, offline."""

    def __init__(self, model: PreTrainedModel, extractor: Any) -> None:
        """Wrap an encoder and its feature extractor; raises WeightsError if it cannot keep the contract."""
        super().__init__()
        formulas = [getattr(model, name) for name in LENGTH_FORMULAS if hasattr(model, name)]
        kind = model.config.model_type
        if kind == "whisper" or not formulas:
            reason = "reads 30 s at a time" if kind == "whisper" else "does not say how many frames it gives"
            raise WeightsError(f"a {kind} model cannot be a hub encoder: it {reason}; use wav2vec2, parakeet or alike")
        self.model, self.extractor = model, extractor
        self._output_lengths = formulas[0]
        # Group norm's statistics cover the padding too (wav2vec 2.0 base, HuBERT base): one row at a time.
        self.row_by_row = getattr(model.config, "feat_extract_norm", None) == "group"
        if hasattr(model.config, "apply_spec_augment"):
            model.config.apply_spec_augment = False  # augmentation is the recipe's choice, never a hidden one
        self.rate = int(extractor.sampling_rate)  # Hz of the clips
        self.frame_rate = self._derive_frame_rate()  # Hz of the hidden states

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path) -> HubEncoder:
        """Load a folder or a name that `weights.get` knows; one with a decoder or a head gives its encoder.

        Raises WeightsError where there is no such model, or it is no speech encoder in safetensors.
        """
        folder = Path(name_or_folder)
        if not folder.is_dir():
            from speechllm import weights

            folder = weights.get(str(name_or_folder))
        try:
            extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
            model = AutoModel.from_pretrained(folder, trust_remote_code=False, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise WeightsError(f"{name_or_folder} holds no speech encoder to load: {first_line}") from error
        return cls(encoder_of(model), extractor).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write encoder and feature extractor so that `from_pretrained` gives them back."""
        self.model.save_pretrained(folder)
        self.extractor.save_pretrained(folder)

    @property
    def size(self) -> int:
        """D, width of the hidden states."""
        config = self.model.config
        adapted = getattr(config, "add_adapter", False) and getattr(config, "output_hidden_size", None)
        return int(adapted or config.hidden_size)

    def features(self, clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
        """Features of clips of any rate: (B, T, F) float32, zero past each length, and lengths (B,) int64."""
        rows = [self._features_of(clip) for clip in clips]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
        return pad_sequence(rows, batch_first=True), lengths

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode; hidden states past a row's length are zero."""
        assert features.ndim == 3, tuple(features.shape)
        assert lengths.shape == features.shape[:1], (tuple(lengths.shape), tuple(features.shape))
        if self.row_by_row and len(features) > 1:
            rows = [
                self._encode(row[None, :length], lengths[i : i + 1])[0]
                for i, (row, length) in enumerate(zip(features, lengths.tolist(), strict=True))
            ]
            hidden = pad_sequence(rows, batch_first=True)
        else:
            hidden = self._encode(features, lengths)
        lengths = self.output_lengths(lengths)
        return hidden * valid_frames(lengths, hidden.shape[1])[..., None], lengths

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Hidden states (B,) that features of `lengths` (B,) give."""
        return self._output_lengths(lengths).to(torch.long)

    def _encode(self, features: Tensor, lengths: Tensor) -> Tensor:
        mask = valid_frames(lengths, features.shape[1]).long()
        waveform = self.model.main_input_name == "input_values"
        inputs = features.squeeze(-1) if waveform else features
        return self.model(**{self.model.main_input_name: inputs}, attention_mask=mask).last_hidden_state

    def _features_of(self, clip: Clip) -> Tensor:
        """One clip alone: (T, F) float32."""
        samples = clip.resampled(self.rate).samples
        samples = np.pad(samples, (0, max(0, round(SHORTEST * self.rate) - len(samples))))
        prepared = self.extractor(samples, sampling_rate=self.rate, return_attention_mask=True, return_tensors="pt")
        row = prepared[self.model.main_input_name][0].float()
        row = row[:, None] if row.ndim == 1 else row
        return row[: int(prepared["attention_mask"][0].sum())]

    def _derive_frame_rate(self) -> float:
        """Extra frames for ten more seconds, so that what the edges cost does not count."""
        short, long = (
            self._features_of(Clip(np.zeros(seconds * self.rate, np.float32), self.rate)) for seconds in (1, 11)
        )
        frames = self.output_lengths(torch.tensor([len(short), len(short) + 100 * (len(long) - len(short))]))
        return float(frames[1] - frames[0]) / 1000.0


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The encoder of a model that has a decoder or a head above it, else the model."""
    inner = getattr(model, "encoder", None)
    return inner if isinstance(inner, PreTrainedModel) else model
