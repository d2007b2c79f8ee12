"""`govor train`: from a recipe to a run folder with checkpoints."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from govor.device import pick_device
from govor.errors import GovorError
from govor.examples.augment import Augmenter
from govor.examples.batching import check_plan
from govor.examples.mixing import Chance
from govor.families import adapters
from govor.families.opening import base_sha256, best_checkpoint, trainable_folder
from govor.families.registry import family_class, family_of
from govor.files import read_json, write_json, write_text
from govor.finetune import checkpoints, groups
from govor.finetune.average import average_and_judge
from govor.finetune.diagnose import write_diagnosis
from govor.finetune.folder import (
    bring_back,
    choose_precision,
    data_sha256,
    finished_steps,
    let_go,
    may_start,
    open_folder,
    run_folder,
)
from govor.finetune.loop import Trainer
from govor.finetune.memory import fitting_budget
from govor.finetune.phases import Stage, forecast, stages
from govor.finetune.planning import build_plan, load_augmenter
from govor.finetune.survey import SourceData, all_languages, all_licenses, augment_sha256, fingerprints, odds, survey
from govor.finetune.track import Trackers, check_installed
from govor.finetune.upload import Uploader
from govor.finetune.validation import Validation
from govor.finetune.watch import Reporter, Watch, read_metrics
from govor.hub import find_model
from govor.recipe import Finetune, Recipe
from govor.runs import environment, memory_mb, now

_FAST_CLIPS = 8
_FAST_STEPS = 2


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a run."""

    run: Path
    best: Path
    metrics: dict[str, Any]
    total_steps: int


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
    recipe: Recipe, reporter: Reporter, resume: bool = False, overwrite: bool = False, device: str = "auto"
) -> Finished:
    """Train as the recipe says.

    Raises:
        GovorError: the run exists and neither `resume` nor `overwrite` is set, the data cannot be used, or a resumed
            run's recipe or data has changed.
    """
    try:
        return _train(recipe, reporter, resume, overwrite, device)
    except BaseException:
        if PartialState().is_main_process:
            bring_back(run_folder(recipe))
        raise
    finally:
        AcceleratorState._reset_state()  # the next run of this process begins anew


@dataclass(frozen=True, slots=True)
class _Ready:
    """Everything that is settled before a weight is loaded."""

    base: Path
    sources: list[SourceData]
    stages: list[Stage]
    chances: list[dict[str, Chance]]
    augmenter: Augmenter | None


def _train(recipe: Recipe, reporter: Reporter, resume: bool, overwrite: bool, device: str) -> Finished:
    run, data = run_folder(recipe), fingerprints(recipe)
    chosen_device = pick_device(device)
    state = PartialState(cpu=chosen_device.value == "cpu")
    main = state.is_main_process
    say: Callable[[str], None] = reporter.note if main else (lambda _: None)
    if main:
        may_start(run, recipe, data, resume, overwrite)
    check_installed(recipe.tracking.to)
    uploader = _uploader(recipe, say) if main else None
    ready = _prepare(recipe, state, chosen_device.value, say)
    if main:
        _tell(recipe, ready, reporter)
    base_sha = base_sha256(ready.base)
    if main and resume and read_json(run / "base_model.json")["sha256"] != base_sha:
        raise GovorError(
            f"{recipe.base_model} has changed since {run} was begun; bring the old one back, or train anew."
        )
    family, targets = _load(recipe, ready, chosen_device.value)
    if main:  # only now that the run can begin does an old one give way
        open_folder(run, resume)
        choose_precision(run, recipe, chosen_device.value, resume)
    state.wait_for_everyone()
    start = finished_steps(run) if resume else None
    trainer = _trainer(
        recipe, run, family, ready, Accelerator(cpu=chosen_device.value == "cpu"), str(chosen_device), say
    )
    if start is not None:
        done = _resume(run, recipe, start, trainer, ready.stages, main, say)
    else:
        done = 0
        if recipe.finetune.max_batch_audio_seconds == "auto":
            trainer.plan = fitting_budget(trainer, say)
    if main and start is None:
        family.save_base(run / "base")
        write_json(run / "base_model.json", {"source": recipe.base_model, "sha256": base_sha})
        write_text(run / "recipe.yaml", recipe.to_yaml())
    trainer.accelerator.wait_for_everyone()
    watcher = _watcher(recipe, run, trainer, ready, targets, data_sha256(recipe, data), reporter, done, uploader)
    if main:
        let_go(run)
    try:
        finished = _go(recipe, run, data, ready, base_sha, trainer, watcher, done, say)
        trainer.accelerator.wait_for_everyone()
        trainer.accelerator.end_training()
    finally:
        if uploader:  # after the last barrier: the other processes need not wait for a slow line
            uploader.close()
    return finished


def _go(
    recipe: Recipe,
    run: Path,
    data: dict[str, Any],
    ready: _Ready,
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
        finished = _result(run, recipe, trainer.total_steps, seconds)
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
    ready: _Ready,
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
        family.encoder,
        family.supports_timestamps,
        processes,
        ready.augmenter,
    )
    return Trainer(family, plan, recipe.finetune, ready.stages, accelerator, precision["value"])


def _watcher(
    recipe: Recipe,
    run: Path,
    trainer: Trainer,
    ready: _Ready,
    targets: list[str],
    data_sha256: str,
    reporter: Reporter,
    done: int,
    uploader: Uploader | None,
) -> Watch:
    """Who is told of the run; `targets` are the layers that have adapters."""
    settings, family = recipe.model_dump(mode="json"), trainer.family
    trackers = None
    if trainer.accelerator.is_main_process and recipe.tracking.to:
        tracking = recipe.tracking
        trackers = Trackers(tracking.to, tracking.project, recipe.name, run / "tracking", settings, reporter.note, done)
    asked = {stage.name: _shares(recipe, chance) for stage, chance in zip(ready.stages, ready.chances, strict=True)}
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
    )
    watcher.log(
        "start",
        recipe=settings,
        precision=trainer.precision,
        total_steps=trainer.total_steps,
        resumed_after=done,
        data={source.name: _about(source) for source in ready.sources},
    )
    return watcher


def _steps(trainer: Trainer, watcher: Watch, done: int) -> float:
    """Train what is left; returns the seconds that took. A run that had stopped early does not go on when resumed."""
    if done == 0:
        watcher.baseline()
    started = time.perf_counter()
    if not watcher.patience.exhausted:
        trainer.run(done, watcher)
    return round(time.perf_counter() - started, 1)


def _prepare(recipe: Recipe, state: PartialState, device: str, say: Callable[[str], None]) -> _Ready:
    """Base model, data and phases, with everything refused that can be refused without weights."""
    settings = recipe.finetune
    if settings.lora.quantize != "none" and not device.startswith("cuda"):
        raise GovorError(
            f"finetune.lora.quantize is {settings.lora.quantize}, which needs an NVIDIA GPU (the arithmetic exists only "
            f"there) and this run is on {device}; leave it out."
        )
    with state.main_process_first():
        base = trainable_folder(find_model(recipe.base_model, say), say)
    found = family_of(base, recipe.base_model)
    if found != recipe.family:
        raise GovorError(f"{recipe.base_model} is a {found} model and the recipe's family is {recipe.family}; set one.")
    family = family_class(recipe.family)
    sources = survey(recipe, family.examples(base), family.supports_timestamps)
    rows = [len(source.train) for source in sources]
    planned = stages(recipe, rows)
    check_plan(sum(rows), settings.clips_per_step, state.num_processes)
    chances = [odds(recipe, sources, stage) for stage in planned]
    return _Ready(base, sources, planned, chances, load_augmenter(recipe))


def _tell(recipe: Recipe, ready: _Ready, reporter: Reporter) -> None:
    """Draws, repeats and hours of each source, and shares that the rows do not allow, before training."""
    names, seconds = [source.name for source in ready.sources], [source.seconds for source in ready.sources]
    rows: list[dict[str, Any]] = []
    for stage in ready.stages:
        some, warnings = forecast(stage, names, seconds, recipe.finetune.clips_per_step)
        rows += some
        for warning in warnings:
            reporter.note(f"warning: {warning}")
    rule = recipe.data.epoch
    told = "as many draws as there are rows" if rule == "rows" else f"as many draws as see '{rule}' once"
    reporter.table(f"data (an epoch: {told})", rows)
    missed = [phase.name for phase in recipe.finetune.phases[len(ready.stages) :]]
    if missed:
        reporter.note(f"warning: finetune.max_steps ends the run before phase {', '.join(missed)}")
    for source in ready.sources:
        for reason, count in source.left_out.items():
            reporter.note(f"{source.name}: {count} rows left out ({reason})")
    for stage, chances in zip(ready.stages, ready.chances, strict=True):
        for name, chance in chances.items():
            if chance.reachable > chance.asked + 1e-9:
                reporter.note(
                    f"warning: {name} asked for {chance.asked:.0%} of the examples, and {chance.reachable:.1%} of the rows of "
                    f"phase '{stage.name}' were cut at the end of a slice and make no sense without"
                )
            if chance.reachable < chance.asked - 1e-9:
                reporter.note(
                    f"warning: {name} asked for {chance.asked:.0%} of the examples and {chance.reachable:.1%} is what the "
                    f"rows of phase '{stage.name}' allow"
                )


def _load(recipe: Recipe, ready: _Ready, device: str) -> tuple[Any, list[str]]:
    """The model, with adapters if asked for, and the layers that have them; the phases' groups are checked."""
    settings = recipe.finetune
    options = _quantized(settings, device) if settings.lora.quantize != "none" else {}
    family = family_class(recipe.family).load(ready.base, **options)
    family.allow_all_text()
    targets: list[str] = []
    parts = family.parameter_groups()
    if settings.method == "lora":
        lora = settings.lora
        targets = (
            family.lora_targets() if lora.targets is None else groups.linear_layers(family.module, parts, lora.targets)
        )
        adapters.inject(family.module, targets, lora, settings.seed)
        parts = groups.adapter_parts(family.parameter_groups())
    for stage in ready.stages:
        groups.assign(parts, stage.rates)
    return family, targets


def _quantized(settings: Finetune, device: str) -> dict[str, Any]:
    """Options that load the frozen weights in 8 or 4 bits."""
    try:
        import bitsandbytes  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        raise GovorError(
            f"finetune.lora.quantize={settings.lora.quantize} needs bitsandbytes; install it with: pip install bitsandbytes"
        ) from None
    from transformers import BitsAndBytesConfig

    wanted = settings.lora.quantize
    config = BitsAndBytesConfig(load_in_8bit=wanted == "8bit", load_in_4bit=wanted == "4bit")
    return {"quantization_config": config, "device_map": {"": device}}


def _resume(
    run: Path,
    recipe: Recipe,
    start: Path,
    trainer: Trainer,
    planned: Sequence[Stage],
    main: bool,
    say: Callable[[str], None],
) -> int:
    """Put the model and optimiser where the checkpoint left them; returns the steps done."""
    step = int(read_json(start / "state.json")["step"])
    # The optimiser of the phase that the checkpoint was saved in; the loop enters the next one itself.
    before = next(stage for stage in planned if step <= stage.end)
    state = checkpoints.restore(start, trainer.family.module, trainer.enter(before))
    trainer.loss_scale, trainer.good_steps, trainer.halvings = state.loss_scale, state.good_steps, state.halvings
    if state.max_batch_audio_seconds is not None:
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


def _result(run: Path, recipe: Recipe, steps: int, seconds: float) -> Finished:
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
    }
    average = run / "average.json"
    if average.exists():
        summary["average"] = read_json(average)
    return Finished(run, best, summary, steps)


def _uploader(recipe: Recipe, say: Callable[[str], None]) -> Uploader | None:
    if recipe.tracking.upload is None:
        return None
    uploader = Uploader(f"{recipe.tracking.upload.rstrip('/')}/{recipe.name}", say)
    uploader.check()
    return uploader


def _shares(recipe: Recipe, chances: dict[str, Chance]) -> dict[str, Any]:
    full = 1.0 if recipe.examples.context == "padded" else recipe.examples.full_length_share
    return {
        "asked": {**{name: chance.asked for name, chance in chances.items()}, "full_length": full},
        "reachable": {**{name: round(chance.reachable, 6) for name, chance in chances.items()}, "full_length": full},
    }


def _about(source: SourceData) -> dict[str, Any]:
    return {
        "rows": len(source.train),
        "hours": round(source.seconds / 3600, 3),
        "validation_rows": len(source.validation),
        "left_out": source.left_out,
        "with_times": round(source.timed, 4),
        "with_previous": round(source.previous, 4),
        "licenses": source.licenses,
    }


def _record(
    recipe: Recipe,
    data: dict[str, Any],
    ready: _Ready,
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
        "sources": {source.name: _about(source) for source in ready.sources},
        "recipe": recipe.model_dump(mode="json"),
        "seed": recipe.finetune.seed,
        "phases": watcher.phases,
        "precision": trainer.precision,
        "devices": trainer.accelerator.num_processes,
        "memory_halvings": trainer.halvings,
        "result": summary,
        "environment": environment(),
    }
