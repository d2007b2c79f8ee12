"""AdamW and its schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from govor.errors import GovorError
from govor.examples.phases import Phase, Schedule
from govor.families.base import Family
from govor.finetune.groups import Group


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


def rate_factor(phase: Phase, step: int) -> float:
    """The share of a phase's peak rates at `step` of the run."""
    return lr_factor(step - phase.first_step, phase.steps, phase.warmup_steps, phase.schedule)


def build_optimizer(
    module: nn.Module,
    groups: Sequence[Group],
    weight_decay: float,
    beta2: float,
    before: torch.optim.Optimizer | None = None,
) -> torch.optim.AdamW:
    """AdamW over the groups; weight decay on matrices, not on biases and norms.

    A parameter that trained `before` and trains on keeps its moments and its count of steps; one that is new begins with
    none, and those of one that is frozen now are let go.
    """
    named = dict(module.named_parameters())
    chosen: list[dict[str, Any]] = []
    for group in groups:
        members = [named[name] for name in group.parameters]
        for decay, some in (
            (weight_decay, [p for p in members if p.ndim >= 2]),
            (0.0, [p for p in members if p.ndim < 2]),
        ):
            if some:
                chosen.append({"params": some, "weight_decay": decay, "peak_lr": group.lr, "group": group.name})
    fused = all(parameter.device.type in ("cuda", "cpu") for group in chosen for parameter in group["params"])
    optimizer = torch.optim.AdamW(chosen, lr=0.0, betas=(0.9, beta2), eps=1e-8, fused=fused)
    if before is not None:
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            if parameter in before.state:
                optimizer.state[parameter] = before.state[parameter]
    return optimizer


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Every group at `factor` of its peak; returns the rates by group."""
    rates = {}
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
        rates[str(group["group"])] = float(group["lr"])
    return rates


@runtime_checkable
class Recomputing(Protocol):
    """A module that can make its activations again in the backward pass, as those of `transformers` can."""

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, bool]) -> None:
        """Do so from here on; the arguments are those of `torch.utils.checkpoint`."""
        ...


def recomputing(family: Family) -> Recomputing:
    """The family's module, which must be able to do without stored activations.

    Raises:
        GovorError: it cannot.
    """
    module: object = family.module
    if not isinstance(module, Recomputing):
        raise GovorError(
            f"finetune.activation_checkpointing is set and the family {family.name} has no activations that can be made "
            "again; leave it out."
        )
    return module


def set_dropout(module: nn.Module, share: float) -> None:
    """Dropout between layers; Whisper's layers read the share from an attribute. Adapters have a share of their own."""
    for name, part in module.named_modules():
        if "lora_dropout" in name:
            continue
        if isinstance(part, nn.Dropout):
            part.p = share
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = share
