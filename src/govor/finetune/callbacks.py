"""What can happen around the steps of a run, and how a callback takes part in it.

A callback overrides the methods of the moments that it wants. Every process of a run calls them in the same order with the
same figures, so that all of them end together; files are written by the main process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from govor.examples.phases import Phase
from govor.finetune.checkpoints import Metrics
from govor.finetune.groups import Group
from govor.finetune.loop import StepRecord
from govor.runs import Json


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What validation said after `step` steps: before the first step (0) the loss alone, and nothing where the run was asked
    to end before it could be measured. `errors` are (how much is wrong, of how much) of each clip that was answered."""

    step: int
    metrics: Metrics = field(default_factory=dict)
    errors: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether there are metrics."""
        return bool(self.metrics)


@dataclass(frozen=True, slots=True)
class End:
    """Why a run ends before its last step. It is concluded as every run: averaged, diagnosed, recorded."""

    reason: str


class Pruned(Exception):
    """Raised by a callback: the run ends here and is not concluded, as a trial of a search that is not worth going on with.

    What was saved stays, and can be resumed. It reaches whoever called `train`.
    """


class Callback:
    """The moments of a run, in their order. Nothing happens in those that a subclass leaves as they are."""

    def begun(self) -> End | None:
        """Before the first step, of a run that is resumed too; an `End` lets no step be made."""

    def entered(self, phase: Phase, trained: Sequence[Group]) -> None:
        """Before the first step of a phase, or where a run goes on in it."""

    def stepped(self, record: StepRecord) -> None:
        """After every optimiser step."""

    def evaluated(self, evaluation: Evaluation) -> None:
        """After every evaluation, and before anything is saved. Raising `Pruned` ends the run."""

    def saved(self, step: int, checkpoint: Path, best: Path) -> None:
        """A checkpoint lies there whole, and which one is the best now; in the main process alone."""

    def verdict(self, evaluation: Evaluation) -> End | None:
        """After an evaluation and its checkpoint: why the run ends here, if it does. The first to say so is heard."""

    def concluded(self, best: Path, metrics: Json) -> None:
        """The run is over and recorded."""

    def close(self) -> None:
        """Whatever happened: let go of what is held."""


class Callbacks(Callback):
    """Several, in the order in which they are called."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._all = callbacks

    def begun(self) -> End | None:
        """See `Callback.begun`."""
        return next((end for callback in self._all if (end := callback.begun())), None)

    def entered(self, phase: Phase, trained: Sequence[Group]) -> None:
        """See `Callback.entered`."""
        for callback in self._all:
            callback.entered(phase, trained)

    def stepped(self, record: StepRecord) -> None:
        """See `Callback.stepped`."""
        for callback in self._all:
            callback.stepped(record)

    def evaluated(self, evaluation: Evaluation) -> None:
        """See `Callback.evaluated`."""
        for callback in self._all:
            callback.evaluated(evaluation)

    def saved(self, step: int, checkpoint: Path, best: Path) -> None:
        """See `Callback.saved`."""
        for callback in self._all:
            callback.saved(step, checkpoint, best)

    def verdict(self, evaluation: Evaluation) -> End | None:
        """See `Callback.verdict`."""
        return next((end for callback in self._all if (end := callback.verdict(evaluation))), None)

    def concluded(self, best: Path, metrics: Json) -> None:
        """See `Callback.concluded`."""
        for callback in self._all:
            callback.concluded(best, metrics)

    def close(self) -> None:
        """See `Callback.close`."""
        for callback in self._all:
            callback.close()
