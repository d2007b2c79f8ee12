"""A run that has begun: from a recipe to a model, its plan and its data in memory, and a folder that says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from govor.errors import GovorError
from govor.examples.phases import Phase
from govor.families import adapters
from govor.families.base import Family, Refreshing
from govor.families.opening import findable, tell_mended
from govor.files import write_text
from govor.finetune import checklist, checkpoints, resume
from govor.finetune.begun import may_start
from govor.finetune.data import data_sha256, fingerprints
from govor.finetune.folder import choose_precision
from govor.finetune.loop import Trainer
from govor.finetune.memory import fitting_budget
from govor.finetune.phases import even_steps
from govor.finetune.planning import build_plan
from govor.finetune.prepare import Ready, load, prepare, tell
from govor.finetune.process import Process, not_alone
from govor.finetune.request import Resume
from govor.finetune.resume import Change
from govor.finetune.track import check_installed
from govor.finetune.upload import Uploader
from govor.finetune.validation import Validation, metric_named
from govor.logs import RunLog
from govor.metrics.metric import Metric
from govor.recipe import Recipe
from govor.runs import Json, Run, Workspace, read_state


@dataclass(slots=True)
class Session:
    """A run that has begun in this process. `done` are the steps done before it, `steps` those after which to evaluate."""

    workspace: Workspace
    recipe: Recipe
    process: Process
    ready: Ready
    data: dict[str, Json]
    data_sha256: str
    trainer: Trainer
    metric: Metric
    validation: Validation
    done: int
    steps: set[int]
    measured: set[int]
    save_adapters: Callable[[Path], None] | None = None
    uploader: Uploader | None = None
    # By id and audio: clips that could not be read.
    unreadable: set[tuple[str, str]] = field(default_factory=set)
    log: RunLog | None = None

    @property
    def run(self) -> Run:
        """Its folder and what is filed about it."""
        return self.process.run

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.process.main

    @property
    def accelerator(self) -> Accelerator:
        """What the processes of the run agree by."""
        return self.trainer.accelerator

    @property
    def owed(self) -> bool:
        """Whether the last checkpoint was saved without being measured, since the run was interrupted there."""
        return self.done in self.steps and self.done not in self.measured

    def due(self, step: int) -> bool:
        """Whether to evaluate and save after `step` steps; every process asks."""
        return step in self.steps or self.process.stop.asked(self.accelerator)

    def event(self, message: str, **values: Any) -> None:
        """One line of the run's log."""
        if self.log:
            self.log.write(message, **values)


def begin(workspace: Workspace, recipe: Recipe, process: Process, resuming: Resume, overwrite: bool) -> Session:
    """Refuse what cannot be trained, load the model, and open the run's folder, where an old run gives way.

    Raises:
        GovorError: with what is wrong; nothing is changed then, or comes back when `process` ends.
    """
    run, progress, data = process.run, process.progress, fingerprints(workspace, recipe)
    if process.main:
        may_start(run, bool(resuming), overwrite)
    changes = _changes(process, recipe, data, resuming) if resuming else []
    check_installed(recipe.tracking.to)
    uploader = _uploader(recipe, progress.note) if process.main else None
    ready = prepare(workspace, recipe, process.state, process.device.value, progress)
    if process.main:
        tell(recipe, ready, progress)
    if process.main and resuming and run.read("base_model.json")["sha256"] != ready.base_sha256:
        raise GovorError(
            f"{recipe.base_model} has changed since {run.folder} was begun; bring the old one back, or train anew."
        )
    family, targets = load(recipe, ready, process.device.value)
    tell_mended(family, progress.note)
    start = run.last_checkpoint() if resuming else None
    if process.main:
        checklist.check(recipe, run, family, ready, str(process.device), bool(resuming), progress)
        if start is not None:
            _check_steps_left(run, start, ready.phases)
        # Only now that the run can begin does an old one give way.
        process.place.open(bool(resuming))
        choose_precision(run, recipe, process.device.value, bool(resuming))
        resume.note(run, recipe, changes)
    if not_alone() and (recipe.finetune.dropout or recipe.finetune.method == "lora"):
        progress.note(
            "warning: another run is trained in this process, and torch has one generator for both; the draws of dropout and of "
            "new adapters are not those of a run alone"
        )
    process.state.wait_for_everyone()
    trainer = _trainer(process, recipe, family, ready)
    done = _restored(process, recipe, trainer, start, changes)
    if process.main:
        # What a model is taught may be a part of its configuration.
        anew = start is None or any(change.name.startswith("examples.") for change in changes)
        _write_begun(run, recipe, family, ready.base_sha256, anew)
    trainer.accelerator.wait_for_everyone()
    rows = run.metrics("eval") if done else []
    return Session(
        workspace,
        recipe,
        process,
        ready,
        data,
        data_sha256(workspace, recipe, data),
        trainer,
        metric_named(recipe.evaluation.metric, family.task),
        Validation(recipe, ready.sources, trainer.accelerator),
        done,
        steps=even_steps(ready.phases, recipe.evaluation.evaluations),
        measured={int(row["step"]) for row in rows if 0 < row["step"] <= done},
        save_adapters=_adapter_writer(workspace, recipe, family, targets),
        uploader=uploader,
    )


def _changes(process: Process, recipe: Recipe, data: dict[str, Json], resuming: Resume) -> list[Change]:
    """How the recipe and data differ from those that the run was begun with; refused where they may not."""
    run = process.run
    changes = resume.changes(run, recipe, data)
    if process.main:
        resume.check(run, changes, resuming == "changed")
        if run.finished:
            raise GovorError(f"{run.folder} is finished; evaluate it, or train on under another name.")
    return changes


def _uploader(recipe: Recipe, notify: Callable[[str], None]) -> Uploader | None:
    if recipe.tracking.upload is None:
        return None
    uploader = Uploader(f"{recipe.tracking.upload.rstrip('/')}/{recipe.name}", notify)
    uploader.check()
    return uploader


def _check_steps_left(run: Run, start: Path, phases: Sequence[Phase]) -> None:
    done = int(read_state(start)["step"])
    if done > phases[-1].end:
        raise GovorError(
            f"{run.folder} has done {done} steps and the changed recipe ends after {phases[-1].end}; give it more, or train "
            "anew."
        )


def _trainer(process: Process, recipe: Recipe, family: Family, ready: Ready) -> Trainer:
    """Model and plan in memory, with the number format that the run was begun with."""
    progress, precision = process.progress, process.run.read("precision.json")
    accelerator = Accelerator(cpu=process.device.value == "cpu")
    processes = accelerator.num_processes
    progress.note(f"device: {process.device}" + (f", {processes} processes" if processes > 1 else ""))
    progress.note(f"precision: {precision['value']} ({precision['reason']})")
    if recipe.examples.augment is not None:
        progress.note(f"augmentation: {recipe.examples.augment}")
    plan = build_plan(recipe, ready.sources, ready.phases, family.renderer, ready.augmenter, processes)
    trainer = Trainer(family, plan, recipe.finetune, ready.phases, accelerator, precision["value"])
    if recipe.examples.cached_share:
        trainer.refresh_steps = recipe.examples.silence_steps
    return trainer


def _restored(process: Process, recipe: Recipe, trainer: Trainer, start: Path | None, changes: list[Change]) -> int:
    """Put the model and optimiser where the checkpoint left them; returns the steps done. A budget that is not known yet
    is probed."""
    note, done, anew = process.progress.note, 0, True
    if start is not None:
        for change in changes:
            note(f"changed since the run was begun: {change.text}")
        anew = any(change.name == "finetune.max_batch_audio_seconds" for change in changes)
        done = int(read_state(start)["step"])
        # The optimiser of the phase that the checkpoint was saved in; the next one is entered at its first step.
        trainer.enter(next(phase for phase in trainer.phases if done <= phase.end))
        state, refreshed = checkpoints.restore(start, trainer.family.module, trainer.optimizer)
        if refreshed and isinstance(trainer.family, Refreshing):
            trainer.family.restore_refreshed(refreshed)
        trainer.loss_scale, trainer.good_steps, trainer.halvings = state.loss_scale, state.good_steps, state.halvings
        if state.max_batch_audio_seconds is not None and not anew:
            trainer.plan = replace(trainer.plan, max_batch_audio_seconds=state.max_batch_audio_seconds)
        if process.main:  # a run that was killed between saving and noting which is best
            wanted = recipe.evaluation
            metric = metric_named(wanted.metric, trainer.family.task)
            checkpoints.prune(process.run, metric, wanted.keep_best, wanted.average)
        note(f"resuming after step {done} of {trainer.total_steps}")
    if anew and recipe.finetune.max_batch_audio_seconds == "auto":
        trainer.plan = fitting_budget(trainer, note)
    return done


def _write_begun(run: Run, recipe: Recipe, family: Family, base_sha: str, new: bool) -> None:
    if new:
        family.save_base(run.folder / "base")
        write_text(run.recipe_file, recipe.to_yaml())
    run.write("base_model.json", {"source": recipe.base_model, "sha256": base_sha})


def _adapter_writer(
    workspace: Workspace, recipe: Recipe, family: Family, targets: list[str]
) -> Callable[[Path], None] | None:
    """What saves the adapters of the layers `targets`, where there are any."""
    if not targets:
        return None
    base = findable(workspace.model(recipe.base_model))
    return partial(adapters.save_adapters, family.module, targets, recipe.finetune.lora, base)
