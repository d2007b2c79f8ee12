"""What a step of training minimises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from govor.families.base import Batch, Family
from govor.recipe import Finetune


class Objective(Protocol):
    """Of one micro-batch: the sum of the loss over what counts, and how much counts; the trainer divides, once a step."""

    def __call__(self, family: Family, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss sum and weight, both scalars; the sum has a gradient."""
        ...


def objective_of(settings: Finetune) -> Objective:
    """What a run minimises, by its recipe: every trainer asks here."""
    return CrossEntropy(settings.label_smoothing)


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """The family's own loss, with `label_smoothing`: a share of the target that is spread over all answers."""

    label_smoothing: float = 0.0

    def __call__(self, family: Family, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Objective`."""
        return family.loss(batch, label_smoothing=self.label_smoothing)
