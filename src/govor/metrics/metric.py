"""A figure with its direction: which of two values is better is said here and nowhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure that a task is judged by. `name` is its key in metrics, scorings and recipes."""

    name: str
    better: Better

    @property
    def label(self) -> str:
        """Its name as people read it: WER, macro f1."""
        return self.name.upper() if len(self.name) <= 3 else self.name.replace("_", " ")

    def rank(self, value: float | None) -> float:
        """What values are ranked by, the lowest first; what was not measured comes last."""
        if value is None:
            return math.inf
        return value if self.better == "lower" else -value

    def passes(self, value: float, limit: float) -> bool:
        """Whether a value keeps a gate's limit."""
        return value <= limit if self.better == "lower" else value >= limit


LOSS = Metric("loss", "lower")
