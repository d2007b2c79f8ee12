"""One evaluation of a run, and the checkpoint that goes with it."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from govor.errors import GovorError
from govor.families.base import Refreshing
from govor.finetune import checkpoints
from govor.finetune.callbacks import Callback, Evaluation
from govor.finetune.checkpoints import State
from govor.finetune.session import Session
from govor.finetune.stopping import StopNow


def evaluate(session: Session, step: int) -> Evaluation:
    """Measure on the validation clips after `step` steps; nothing is measured where the run was asked to end.

    Before the first step it is the loss alone, so that the curve has a beginning.

    Raises:
        GovorError: the loss is no number, or the device ran out of memory.
    """
    family, trainer = session.trainer.family, session.trainer
    if not step:
        return Evaluation(step, session.validation.measure(family, trainer.autocast(), decode=False))
    if step not in session.steps:
        return Evaluation(step)
    try:
        with session.process.stop.between_steps():
            metrics = session.validation.measure(family, trainer.autocast())
    except StopNow:
        return Evaluation(step)
    except torch.OutOfMemoryError:
        raise GovorError(
            f"The device ran out of memory while evaluating at step {step}; lower evaluation.decode_clips and go on from "
            "the last checkpoint, which is whole, with --resume-changed; or cut the clips shorter."
        ) from None
    loss = metrics["loss"]
    if loss is not None and not math.isfinite(loss):
        raise GovorError(
            f"The validation loss at step {step} is {loss}, which is no number; lower finetune.lr or use "
            "finetune.precision=fp32, and go on from the last checkpoint, which is whole, with --resume-changed."
        )
    return Evaluation(step, metrics, session.validation.errors)


def save(session: Session, evaluation: Evaluation, callback: Callback) -> None:
    """A checkpoint with what an evaluation said, and the best of all noted; the callback hears of it."""
    if evaluation.measured:
        _tell_unmeasured(session, evaluation)
    if session.main:
        trainer, wanted = session.trainer, session.recipe.evaluation
        state = State(
            evaluation.step,
            evaluation.metrics,
            session.data_sha256,
            trainer.loss_scale,
            trainer.good_steps,
            trainer.halvings,
            trainer.plan.max_batch_audio_seconds,
        )
        folder, module = session.run.checkpoints, trainer.family.module
        family = trainer.family
        refreshed = family.refreshed() if isinstance(family, Refreshing) else None
        saved: Path = checkpoints.save(folder, module, trainer.optimizer, state, session.save_adapters, refreshed)
        best = checkpoints.prune(session.run, session.metric, wanted.keep_best, wanted.average)
        callback.saved(evaluation.step, saved, best)
    session.accelerator.wait_for_everyone()


def _tell_unmeasured(session: Session, evaluation: Evaluation) -> None:
    """Once: what ranks the checkpoints where their metric is not measured."""
    name = session.metric.name
    if evaluation.metrics.get(name) is None and not session.measured:
        session.process.progress.note(
            f"warning: {name} could not be measured at step {evaluation.step} (no validation clip was transcribed, or none "
            f"has words); checkpoints without {name} are ranked by loss"
        )
    session.measured.add(evaluation.step)
