"""A stretch of a run: what is drawn in it, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from govor.examples.mixing import Chance, Mixture

Schedule = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One of a recipe's phases with everything settled. Steps count from 0 through the whole run.

    Attributes:
        mixture: what is drawn.
        chances: with which probability a row that is free to choose shows an example feature, by the feature's name.
        schedule: how the learning rate goes after `warmup_steps`.
        rates: peak learning rates by parameter group.
    """

    name: str
    first_step: int
    steps: int
    mixture: Mixture
    chances: Mapping[str, Chance] = field(default_factory=dict)
    schedule: Schedule = "linear"
    warmup_steps: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The first step that is no longer in it."""
        return self.first_step + self.steps
