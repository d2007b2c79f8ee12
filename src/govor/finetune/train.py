"""`govor train`: from a recipe to a run folder with checkpoints."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from govor.device import pick_device
from govor.errors import GovorError
from govor.families import adapters
from govor.families.opening import base_sha256, best_checkpoint, tell_mended
from govor.files import write_text
from govor.finetune import checklist, checkpoints, resume
from govor.finetune.average import average_and_judge
from govor.finetune.begun import finished_steps, may_start, run_folder, with_code
from govor.finetune.diagnose import write_diagnosis
from govor.finetune.folder import Place, choose_precision, data_sha256, recover
from govor.finetune.loop import Trainer
from govor.finetune.memory import fitting_budget
from govor.finetune.phases import Stage
from govor.finetune.planning import build_plan
from govor.finetune.prepare import Ready, about_source, load, prepare, shares, tell
from govor.finetune.resume import Change
from govor.finetune.stopping import Interrupted, Stop, StopNow
from govor.finetune.survey import all_languages, all_licenses, augment_sha256, fingerprints
from govor.finetune.track import Trackers, check_installed
from govor.finetune.upload import Uploader
from govor.finetune.validation import Validation
from govor.finetune.watch import Reporter, Watch, read_metrics
from govor.jsons import read_json, write_json
from govor.locks import held
from govor.machine import environment, memory_mb, now
from govor.recipe import Recipe

_FAST_CLIPS = 8
_FAST_STEPS = 2


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a run."""

    run: Path
    best: Path
    metrics: dict[str, Any]
    total_steps: int
    unreadable: int = 0


def fast_dev_run(recipe: Recipe) -> Recipe:
    """The same run on a handful of clips for two steps a phase: does everything work?"""
    phases = tuple(
        phase.model_copy(update={"max_steps": _FAST_STEPS, "warmup_steps": 1}) for phase in recipe.finetune.phases
    )
    finetune = recipe.finetune.model_copy(
        update={
            "max_steps": None if phases else _FAST_STEPS,
            "phases": phases,
            "clips_per_step": max(
                min(_FAST_CLIPS // 2, recipe.finetune.clips_per_step), int(os.environ.get("WORLD_SIZE", "1"))
            ),
            "warmup_steps": 1,
        }
    )
    evaluation = recipe.evaluation.model_copy(
        update={
            "evaluations": 1,
            "loss_clips": _FAST_CLIPS,
            "decode_clips": min(4, recipe.evaluation.decode_clips),
        }
    )
    return recipe.model_copy(
        update={"name": f"{recipe.name[:90]}-fast-dev", "finetune": finetune, "evaluation": evaluation}
    )


def train(
    recipe: Recipe,
    reporter: Reporter,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    changed: bool = False,
) -> Finished:
    """Train as the recipe says; `changed` allows a resumed run another recipe or data, and writes that down.

    Raises:
        GovorError: the run exists and neither `resume` nor `overwrite` is set, another process is at it, the data cannot be
            used, or a resumed run's recipe or data has changed.
        Interrupted: a signal came; what was trained is saved.
    """
    recipe = with_code(recipe)
    run = run_folder(recipe)
    chosen = pick_device(device)
    state = PartialState(cpu=chosen.value == "cpu")
    place = Place(run, reporter.note)
    try:
        with ExitStack() as stack:
            stop = stack.enter_context(Stop(state.num_processes))
            if state.is_main_process:
                stack.enter_context(held(run, "trained"))
                recover(run)
            try:
                return _train(
                    recipe, reporter, resume, overwrite, changed, str(chosen), chosen.value, state, place, stop
                )
            except BaseException as error:
                if state.is_main_process:
                    place.bring_back()
                if isinstance(error, StopNow):
                    number = stop.number or signal.SIGTERM  # which another process was sent
                    raise _interrupted(number, run, begun=place.begun or resume) from None
                raise
    finally:
        AcceleratorState._reset_state()  # the next run of this process begins anew


def _interrupted(number: int, run: Path, begun: bool) -> Interrupted:
    last = finished_steps(run) if begun else None
    if last is None:
        return Interrupted(number, "nothing was trained yet that could be saved", resumable=False)
    step = int(read_json(last / "state.json")["step"])
    return Interrupted(number, f"{run} is saved after step {step}", resumable=True)


def _train(
    recipe: Recipe,
    reporter: Reporter,
    resuming: bool,
    overwrite: bool,
    allowed: bool,
    device_name: str,
    device: str,
    state: PartialState,
    place: Place,
    stop: Stop,
) -> Finished:
    run, data = place.run, fingerprints(recipe)
    main = state.is_main_process
    say: Callable[[str], None] = reporter.note if main else (lambda _: None)
    changes: list[Change] = []
    if main:
        may_start(run, resuming, overwrite)
    if resuming:
        changes = resume.changes(run, recipe, data)
        if main:
            resume.check(run, changes, allowed)
            if (run / "run_manifest.json").exists():
                raise GovorError(f"{run} is finished; evaluate it, or train on under another name.")
    check_installed(recipe.tracking.to)
    uploader = _uploader(recipe, say) if main else None
    ready = prepare(recipe, state, device, say)
    if main:
        tell(recipe, ready, reporter)
    base_sha = base_sha256(ready.base)
    if main and resuming and read_json(run / "base_model.json")["sha256"] != base_sha:
        raise GovorError(
            f"{recipe.base_model} has changed since {run} was begun; bring the old one back, or train anew."
        )
    family, targets = load(recipe, ready, device)
    tell_mended(family, say)
    start = finished_steps(run) if resuming else None
    if main:
        checklist.check(recipe, run, family, ready.sources, ready.stages, device_name, resuming, say)
        if start is not None:
            _steps_left(run, start, ready.stages)
        # Only now that the run can begin does an old one give way.
        place.open(resuming)
        choose_precision(run, recipe, device, resuming)
        resume.note(run, recipe, changes)
    state.wait_for_everyone()
    trainer = _trainer(recipe, run, family, ready, Accelerator(cpu=device == "cpu"), device_name, say)
    if start is not None:
        for change in changes:
            say(f"changed since the run was begun: {change.text}")
        anew = any(change.name == "finetune.max_batch_audio_seconds" for change in changes)
        done = _resume(run, recipe, start, trainer, ready.stages, main, anew, say)
    else:
        done, anew = 0, True
    if anew and recipe.finetune.max_batch_audio_seconds == "auto":
        trainer.plan = fitting_budget(trainer, say)
    if main:
        if start is None:
            family.save_base(run / "base")
            write_text(run / "recipe.yaml", recipe.to_yaml())
        write_json(run / "base_model.json", {"source": recipe.base_model, "sha256": base_sha})
    trainer.accelerator.wait_for_everyone()
    sha = data_sha256(recipe, data)
    watcher = _watcher(recipe, run, trainer, ready, targets, sha, reporter, done, uploader, stop)
    if main:
        place.let_go()
    try:
        finished = _go(recipe, run, data, ready, base_sha, trainer, watcher, done, say)
        trainer.accelerator.wait_for_everyone()
        trainer.accelerator.end_training()
    finally:
        if uploader:  # after the last barrier: the other processes need not wait for a slow line
            uploader.close()
    return finished


def _steps_left(run: Path, start: Path, planned: Sequence[Stage]) -> None:
    done = int(read_json(start / "state.json")["step"])
    if done > planned[-1].end:
        raise GovorError(
            f"{run} has done {done} steps and the changed recipe ends after {planned[-1].end}; give it more, or train anew."
        )


def _go(
    recipe: Recipe,
    run: Path,
    data: dict[str, Any],
    ready: Ready,
    base_sha: str,
    trainer: Trainer,
    watcher: Watch,
    done: int,
    say: Callable[[str], None],
) -> Finished:
    """Train what is left, conclude, and write the record."""
    try:
        seconds = _steps(trainer, watcher, done)
        _conclude(recipe, run, trainer, watcher.validation, say)
        best = best_checkpoint(run)
        if watcher.uploader and best.name.startswith("average"):
            watcher.uploader.upload(best)
        finished = _result(run, recipe, trainer.total_steps, seconds, watcher.unreadable)
        if watcher.main:
            write_json(run / "metrics.json", finished.metrics)
            record = _record(recipe, data, ready, base_sha, trainer, watcher, finished.metrics)
            write_json(run / "run_manifest.json", record)
        watcher.log("end", **finished.metrics)
        return finished
    finally:
        watcher.close()


def _trainer(
    recipe: Recipe,
    run: Path,
    family: Any,
    ready: Ready,
    accelerator: Accelerator,
    device: str,
    say: Callable[[str], None],
) -> Trainer:
    """Model and plan in memory, with the number format that the run was begun with."""
    precision, processes = read_json(run / "precision.json"), accelerator.num_processes
    say(f"device: {device}" + (f", {processes} processes" if processes > 1 else ""))
    say(f"precision: {precision['value']} ({precision['reason']})")
    if recipe.examples.augment is not None:
        say(f"augmentation: {recipe.examples.augment}")
    plan = build_plan(
        recipe,
        ready.sources,
        ready.stages,
        ready.chances,
        family.renderer,
        "timestamps" in family.renderer.features,
        processes,
        ready.augmenter,
    )
    return Trainer(family, plan, recipe.finetune, ready.stages, accelerator, precision["value"])


def _watcher(
    recipe: Recipe,
    run: Path,
    trainer: Trainer,
    ready: Ready,
    targets: list[str],
    data_sha256: str,
    reporter: Reporter,
    done: int,
    uploader: Uploader | None,
    stop: Stop,
) -> Watch:
    """Who is told of the run; `targets` are the layers that have adapters."""
    settings, family = recipe.model_dump(mode="json"), trainer.family
    trackers = None
    if trainer.accelerator.is_main_process and recipe.tracking.to:
        tracking = recipe.tracking
        trackers = Trackers(tracking.to, tracking.project, recipe.name, run / "tracking", settings, reporter.note, done)
    asked = {stage.name: shares(recipe, chance) for stage, chance in zip(ready.stages, ready.chances, strict=True)}
    watcher = Watch(
        recipe,
        run,
        trainer,
        Validation(recipe, ready.sources, trainer.accelerator),
        data_sha256,
        reporter,
        done,
        [source.name for source in ready.sources],
        asked,
        partial(adapters.save_adapters, family.module, targets, recipe.finetune.lora, recipe.base_model)
        if targets
        else None,
        trackers,
        uploader,
        stop,
    )
    watcher.log(
        "start",
        recipe=settings,
        precision=trainer.precision,
        total_steps=trainer.total_steps,
        resumed_after=done,
        data={source.name: about_source(source) for source in ready.sources},
    )
    return watcher


def _steps(trainer: Trainer, watcher: Watch, done: int) -> float:
    """Train what is left; returns the seconds that took. A run that had stopped early does not go on when resumed.

    Raises:
        StopNow: a signal came; what was trained is saved.
    """
    if done == 0:
        watcher.baseline()
    started = time.perf_counter()
    with watcher.stop.finishing_steps():
        going_on = not watcher.owes(done) or watcher.evaluate(done)
        if going_on and not watcher.patience.exhausted:
            trainer.run(done, watcher)
    if watcher.stop.asked(trainer.accelerator):
        raise StopNow
    return round(time.perf_counter() - started, 1)


def _resume(
    run: Path,
    recipe: Recipe,
    start: Path,
    trainer: Trainer,
    planned: Sequence[Stage],
    main: bool,
    new_budget: bool,
    say: Callable[[str], None],
) -> int:
    """Put the model and optimiser where the checkpoint left them; returns the steps done."""
    step = int(read_json(start / "state.json")["step"])
    # The optimiser of the phase that the checkpoint was saved in; the loop enters the next one itself.
    before = next(stage for stage in planned if step <= stage.end)
    state = checkpoints.restore(start, trainer.family.module, trainer.enter(before))
    trainer.loss_scale, trainer.good_steps, trainer.halvings = state.loss_scale, state.good_steps, state.halvings
    if state.max_batch_audio_seconds is not None and not new_budget:
        trainer.plan = replace(trainer.plan, max_batch_audio_seconds=state.max_batch_audio_seconds)
    if main:  # a run that was killed between saving and noting which is best
        wanted = recipe.evaluation
        checkpoints.prune(run / "checkpoints", wanted.metric, wanted.keep_best, wanted.average)
    say(f"resuming after step {step} of {trainer.total_steps}")
    return step


def _conclude(recipe: Recipe, run: Path, trainer: Trainer, validation: Validation, say: Callable[[str], None]) -> None:
    """Average, if the recipe asks for it, and say what kind of run it was."""
    count = recipe.evaluation.average
    if count:
        average_and_judge(run, recipe, count, validation, trainer.autocast(), trainer.accelerator, say)
    if trainer.accelerator.is_main_process:
        for line in write_diagnosis(run, recipe.evaluation.metric, trainer.family.chance_loss).lines():
            say(line)


def _result(run: Path, recipe: Recipe, steps: int, seconds: float, unreadable: int) -> Finished:
    """What the run's own metric names best, and what it cost."""
    best = best_checkpoint(run)
    state = read_json(best / "state.json")
    evaluations = read_metrics(run, "eval")
    summary = {
        "best_checkpoint": best.name,
        "best_step": state["step"],
        "metric": recipe.evaluation.metric,
        "metrics": state["metrics"],
        "total_steps": steps,
        "steps_done": evaluations[-1]["step"] if evaluations else 0,
        "training_seconds": seconds,
        "peak_memory_mb": memory_mb(),
        "unreadable_clips": unreadable,
    }
    average = run / "average.json"
    if average.exists():
        summary["average"] = read_json(average)
    return Finished(run, best, summary, steps, unreadable)


def _uploader(recipe: Recipe, say: Callable[[str], None]) -> Uploader | None:
    if recipe.tracking.upload is None:
        return None
    uploader = Uploader(f"{recipe.tracking.upload.rstrip('/')}/{recipe.name}", say)
    uploader.check()
    return uploader


def _record(
    recipe: Recipe,
    data: dict[str, Any],
    ready: Ready,
    base_sha: str,
    trainer: Trainer,
    watcher: Watch,
    summary: dict[str, Any],
) -> dict[str, Any]:
    proofs = {name: Path(source.split) / "proof.json" for name, source in recipe.data.by_name().items()}
    return {
        "run": recipe.name,
        "family": recipe.family,
        "base_model": recipe.base_model,
        "base_sha256": base_sha,
        "created": now(),
        "languages": all_languages(ready.sources),
        "language_token": recipe.examples.language,
        "licenses": all_licenses(ready.sources),
        "data": data,
        "augment_sha256": augment_sha256(recipe),
        "split": {name: read_json(proof) for name, proof in proofs.items() if proof.exists()},
        "sources": {source.name: about_source(source) for source in ready.sources},
        "recipe": recipe.model_dump(mode="json"),
        "seed": recipe.finetune.seed,
        "phases": watcher.phases,
        "precision": trainer.precision,
        "devices": trainer.accelerator.num_processes,
        "memory_halvings": trainer.halvings,
        "resumed": resume.noted(watcher.run),
        "result": summary,
        "environment": environment(),
    }
