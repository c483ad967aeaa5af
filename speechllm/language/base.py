"""Any Hugging Face causal LM, reduced to what this package asks of it: embed, run the body, score output rows.

The base's tensors stay untouched. What is added stands beside them: LoRA (Hu et al. 2021) through PEFT, and two ways
to spare most of a multilingual head, whose 262,144 rows cost more than a small body. In decoding an 8-bit pass over all
rows proposes a few, whose exact products decide; in training the loss may compare the rows that the texts use.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechllm.errors import WeightsError
from speechllm.hub import quiet
from speechllm.int8 import Int8Rows
from speechllm.language.adapters import add_lora, merge_lora

CANDIDATES = 16  # rows of the head that an 8-bit pass proposes
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Language(nn.Module):
    """A causal LM with optional LoRA and an optional choice of output rows for its loss."""

    rows: Tensor | None  # (V',) int64

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model
        self.body: nn.Module = model.get_decoder()
        # transformers renamed this argument of every forward; the old name is deprecated, the new one unknown before.
        names = inspect.signature(self.body.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self.register_buffer("rows", None, persistent=False)
        self._head: Tensor | None = None
        self._quick: Int8Rows | None = None

    @classmethod
    def from_pretrained(cls, folder: Path | str, dtype: torch.dtype = torch.float32) -> Language:
        """Load a base model's folder.

        Raises:
            WeightsError: the folder holds no causal LM.
        """
        from transformers import AutoModelForCausalLM

        try:
            with quiet():
                model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(f"{folder} holds no causal language model: {first}") from error
        return cls(model.requires_grad_(False).eval())

    @property
    def size(self) -> int:
        """Width H of the embeddings."""
        return self.model.get_input_embeddings().weight.shape[1]

    @property
    def vocabulary_size(self) -> int:
        """Rows V of the embedding: ids are 0 to V - 1."""
        return self.model.get_input_embeddings().weight.shape[0]

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings of ids: (…) int -> (…, H)."""
        return self.model.get_input_embeddings()(ids)

    def forward(
        self, embeddings: Tensor, mask: Tensor | None = None, positions: Tensor | None = None, cache: Any = None
    ) -> Tensor:
        """Hidden states before the head.

        Args:
            embeddings: (B, N, H).
            mask: (B, all positions so far) 1 where there is a token, for left-padded batches; None without padding.
            positions: (B, N) int; None counts on from the cache.
            cache: a transformers Cache, extended in place, or None.
        Returns:
            (B, N, H)
        """
        assert embeddings.ndim == 3 and embeddings.shape[2] == self.size, embeddings.shape
        arguments = {self._cache_name: cache, "use_cache": cache is not None}
        return self.body(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, **arguments
        ).last_hidden_state

    def add_lora(self, rank: int, alpha: int, dropout: float = 0.0) -> None:
        """Put trainable low-rank adapters on all linear layers of the body; they start as no change at all."""
        add_lora(self.body, LORA_TARGETS, rank, alpha, dropout)

    def compile_layers(self) -> None:
        """Compile each layer of the body: training is 1.5 times as fast on a processor. Needs a C++ compiler there."""
        for layer in self.body.layers:  # type: ignore[union-attr]
            layer.forward = torch.compile(layer.forward, dynamic=True)  # type: ignore[method-assign]

    def merge_lora(self) -> None:
        """Replace each adapted layer by a plain one with the adapter added in; the base's own logits are gone."""
        merge_lora(self.body)

    @contextmanager
    def without_lora(self) -> Iterator[None]:
        """Inside this block the body is the base model, bit for bit."""
        adapters = list(self._adapters())
        for module in adapters:
            module.enable_adapters(False)
        try:
            yield
        finally:
            for module in adapters:
                module.enable_adapters(True)

    def _adapters(self) -> Iterator[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer

        return (module for module in self.body.modules() if isinstance(module, BaseTunerLayer))

    def use_rows(self, rows: Tensor | None) -> None:
        """Let `scores` compare only these output rows (V',) int, sorted; None: all."""
        self.rows = None if rows is None else rows.to(self.device)
        head = self.model.get_output_embeddings().weight
        self._head = None if rows is None else head[self.rows].detach().clone()

    def scores(self, hidden: Tensor, every_row: bool = False) -> Tensor:
        """Logits over the chosen rows: (…, H) -> (…, V'); `columns` says which id stands where.

        every_row: over all rows, whatever was chosen; column c is id c.
        """
        chosen = None if every_row else self._head
        scores = F.linear(hidden, self.model.get_output_embeddings().weight if chosen is None else chosen)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return scores if cap is None else torch.tanh(scores / cap) * cap

    def best(self, hidden: Tensor) -> Tensor:
        """Ids of the most likely next tokens, of all rows: (N, H) -> (N,).

        A packed head proposes `CANDIDATES` rows; which of them is best, their exact products in fp32 say.
        """
        if self._quick is None:
            return self.scores(hidden, every_row=True).argmax(-1)
        head = self.model.get_output_embeddings().weight
        quick = self._quick(hidden)
        found = quick.topk(min(CANDIDATES, quick.shape[1])).indices
        exact = (head[found].float() @ hidden.float().unsqueeze(-1)).squeeze(-1)
        return found.gather(1, exact.argmax(-1, keepdim=True)).squeeze(1)

    def pack(self) -> None:
        """Keep the rows of the head in 8 bits too: they are half of what a step reads."""
        self._quick = Int8Rows(self.model.get_output_embeddings().weight)

    def columns(self, ids: Tensor) -> Tensor:
        """Columns of `scores` of token ids; -1 where an id is not among the chosen rows."""
        if self.rows is None:
            return ids
        places = torch.searchsorted(self.rows, ids).clamp(max=len(self.rows) - 1)
        return torch.where(self.rows[places] == ids, places, -1)
