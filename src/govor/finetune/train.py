"""`govor train`: from a recipe to a run folder with checkpoints."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from govor.finetune.begun import with_code
from govor.finetune.callbacks import Callback, Callbacks, End
from govor.finetune.conclude import conclude
from govor.finetune.evaluate import evaluate, save
from govor.finetune.logging_callbacks import standard_callbacks
from govor.finetune.loop import StepRecord
from govor.finetune.process import taking_part
from govor.finetune.repeat import check_repeatable
from govor.finetune.reporting import SILENT_RUN, RunProgress
from govor.finetune.request import Request, Resume
from govor.finetune.session import Session, begin
from govor.finetune.stopping import StopNow
from govor.recipe import Recipe
from govor.runs import Json, Run, Workspace


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a run: `metrics` are those of metrics.json; `ended` says why it ended before its last step, if it did."""

    run: Run
    best: Path
    metrics: Json
    total_steps: int
    unreadable: int = 0
    ended: End | None = None

    def warnings(self) -> list[str]:
        """What was left out of the run."""
        dropped = self.run.workspace.as_given(self.run.folder / "dropped.jsonl")
        return [f"{self.unreadable} clips could not be read and were left out: {dropped}"] if self.unreadable else []


def train_as_asked(
    workspace: Workspace, request: Request, progress: RunProgress = SILENT_RUN, callbacks: Sequence[Callback] = ()
) -> Finished:
    """Train what was asked for with `request.ask`; a run is repeated only from the data and the base model that it had.

    Raises:
        GovorError: see `check_repeatable` and `train`.
    """
    if request.record is not None:
        check_repeatable(workspace, request.record, request.recipe, progress)
    how = (request.resume, request.overwrite, request.device)
    return train(workspace, request.recipe, progress, *how, callbacks)


def train(
    workspace: Workspace,
    recipe: Recipe,
    progress: RunProgress = SILENT_RUN,
    resume: Resume = False,
    overwrite: bool = False,
    device: str = "auto",
    callbacks: Sequence[Callback] = (),
) -> Finished:
    """Train as the recipe says.

    Args:
        resume: go on with the run of that name; "changed" allows it another recipe or data, and writes that down.
        overwrite: an old run of that name gives way, once the new one can begin.
        callbacks: called after those of every run; see `Callback`, and `Pruned`.

    Raises:
        GovorError: the run exists and neither `resume` nor `overwrite` is set, another process is at it, the data cannot be
            used, or a resumed run's recipe or data has changed.
        Interrupted: a signal came; what was trained is saved.
    """
    recipe = with_code(recipe)
    run = workspace.run(recipe.family, recipe.name)
    with taking_part(run, device, progress, bool(resume)) as process:
        session = begin(workspace, recipe, process, resume, overwrite)
        callback = Callbacks([*standard_callbacks(session), *callbacks])
        if process.main:
            process.place.let_go()
        try:
            if not session.done:
                callback.evaluated(evaluate(session, 0))
            started = time.perf_counter()
            ended = _steps(session, callback)
            metrics = conclude(session, round(time.perf_counter() - started, 1))
            best = run.best_checkpoint()
            callback.concluded(best, metrics)
            session.accelerator.wait_for_everyone()
            session.accelerator.end_training()
        finally:
            callback.close()
    return Finished(run, best, metrics, session.trainer.total_steps, len(session.unreadable), ended)


def _steps(session: Session, callback: Callback) -> End | None:
    """Train what is left; returns why that ended early, if it did.

    Raises:
        StopNow: a signal came; what was trained is saved.
    """
    stop = session.process.stop
    with stop.finishing_steps():
        ended = _evaluated(session, callback, session.done) if session.owed else None
        ended = ended or callback.begun()
        if not ended:
            for record in _records(session, callback):
                callback.stepped(record)
                if session.due(record.step):
                    ended = _evaluated(session, callback, record.step)
                    if ended:
                        break
    if stop.asked(session.accelerator):
        raise StopNow
    return ended


def _evaluated(session: Session, callback: Callback, step: int) -> End | None:
    """Evaluate, save a checkpoint, and say whether that is the end."""
    evaluation = evaluate(session, step)
    callback.evaluated(evaluation)
    save(session, evaluation, callback)
    return callback.verdict(evaluation)


def _records(session: Session, callback: Callback) -> Iterator[StepRecord]:
    """The steps that are left, every phase entered before its first."""
    trainer, done = session.trainer, session.done
    steps = trainer.steps(done)
    for phase in trainer.phases:
        if phase.end > done:
            callback.entered(phase, trainer.enter(phase))
            yield from itertools.islice(steps, phase.end - max(phase.first_step, done))
