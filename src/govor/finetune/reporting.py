"""What a run tells whoever called it."""

from __future__ import annotations

from typing import Protocol

from govor.finetune.checkpoints import Metrics
from govor.finetune.loop import StepRecord
from govor.progress import Progress, Silent


class RunProgress(Progress, Protocol):
    """A progress that also follows the steps and evaluations of a run."""

    def step(self, record: StepRecord, total_steps: int) -> None:
        """A step is done."""
        ...

    def evaluated(self, step: int, metrics: Metrics) -> None:
        """An evaluation is done."""
        ...


class SilentRun(Silent):
    """One that nobody watches."""

    def step(self, record: StepRecord, total_steps: int) -> None:
        """Nothing."""

    def evaluated(self, step: int, metrics: Metrics) -> None:
        """Nothing."""


SILENT_RUN = SilentRun()
