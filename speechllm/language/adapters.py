"""Low-rank adapters through PEFT (Hu et al. 2021): put on, merged away."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def add_lora(module: nn.Module, targets: str | Sequence[str], rank: int, alpha: int, dropout: float = 0.0) -> None:
    """Put trainable adapters in fp32 on the linear layers `targets` (names, or one pattern); no change at first."""
    from peft import LoraConfig, inject_adapter_in_model

    names = targets if isinstance(targets, str) else list(targets)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names), module)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def merge_lora(module: nn.Module) -> None:
    """Add the adapters into the weights and put plain linear layers back: no cost a step, no way back."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in list(module.modules()):
        vars(parent).pop("peft_config", None)  # its note of adapters that are there no more
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer):
                child.merge()
                setattr(parent, name, child.get_base_layer())
