"""AdamW and its schedule."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

Schedule = Literal["linear", "cosine", "constant"]


def lr_factor(step: int, total_steps: int, warmup_steps: int, schedule: Schedule) -> float:
    """The share of the peak rate at `step` (counted from 0): a linear rise, then the decay to 0 at `total_steps`."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return max(1.0 - progress, 0.0)


def build_optimizer(module: nn.Module, lr: float, weight_decay: float, beta2: float) -> torch.optim.AdamW:
    """AdamW over what is trainable; weight decay on matrices, not on biases and norms."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(parameter.device.type in ("cuda", "cpu") for parameter in trainable)
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, beta2), eps=1e-8, fused=fused)


def set_dropout(module: nn.Module, share: float) -> None:
    """Dropout between layers; Whisper's layers read the share from an attribute."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = share
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = share  # type: ignore[assignment]
