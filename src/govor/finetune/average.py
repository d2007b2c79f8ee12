"""The weighted mean of a run's best checkpoints, kept only where it scores better than the best one of them.

The members are those with the lowest validation loss, weighted by 1 / loss; adapters are merged first. The mean is
taken tensor by tensor in float64, so that memory holds one model whatever the number of members.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from govor.device import autocast, pick_device
from govor.errors import GovorError
from govor.families import adapters
from govor.families.opening import load_base, load_checkpoint
from govor.families.registry import family_class, family_of
from govor.files import atomic_folder
from govor.finetune.begun import recipe_of
from govor.finetune.checkpoints import Metrics, State, best_by, rank_of, value_of, weights_of
from govor.finetune.data import check_same_data
from govor.finetune.diagnose import write_diagnosis
from govor.finetune.survey import survey
from govor.finetune.validation import Validation, metric_named
from govor.metrics.metric import LOSS, Metric
from govor.progress import SILENT, Progress
from govor.runs import Json, Run, is_whole, read_state, write_state


class Judge:
    """Scores a mean on the validation clips of its run, and says which ships: the mean, or the best single checkpoint."""

    def __init__(
        self,
        run: Run,
        metric: Metric,
        validation: Validation,
        number_format: AbstractContextManager[Any],
        accelerator: Accelerator,
        progress: Progress,
    ) -> None:
        self.run, self.metric, self.validation, self.progress = run, metric, validation, progress
        self.number_format, self.accelerator = number_format, accelerator

    def average(self, count: int) -> Json | None:
        """Average the best `count` checkpoints, score the mean, ship the better.

        Every process of a run calls this. Returns what `average.json` says; None where there are too few checkpoints.
        """
        members = _best_kept(self.run, count)
        if len(members) < 2:
            self.progress.note(
                f"average: {len(members)} of the best checkpoints by loss is kept, and an average needs at least 2"
            )
            return None
        if len(members) < count:
            self.progress.note(f"average: {count} were asked for, and the best {len(members)} by loss are kept")
        target = self.run.checkpoints / f"average-{len(members)}"
        losses = [value_of(member, LOSS) for member in members]
        weights = inverse_loss_weights([loss for loss in losses if loss is not None])
        if self.accelerator.is_main_process:
            write_average(self.run, members, weights, target)
        self.accelerator.wait_for_everyone()
        family = load_checkpoint(self.run, target)
        family.module.to(self.accelerator.device)
        result = self._judged(members, weights, target, self.validation.measure(family, self.number_format))
        self.accelerator.wait_for_everyone()
        return result

    def _judged(self, members: Sequence[Path], weights: Sequence[float], target: Path, metrics: Metrics) -> Json:
        """Write down what came of a mean that has these metrics."""
        metric, single = self.metric, best_by(self.run, self.metric)[0]
        single_metrics = read_state(single)["metrics"]
        mine, theirs = metrics.get(metric.name), single_metrics.get(metric.name)
        shipped = self._better(target, metrics, single)
        result = {
            "members": [
                {"checkpoint": member.name, "loss": value_of(member, LOSS), "weight": round(weight, 6)}
                for member, weight in zip(members, weights, strict=True)
            ],
            "metric": metric.name,
            "average": metrics,
            "best_single": {"checkpoint": single.name, **single_metrics},
            "shipped": shipped.name,
        }
        if self.accelerator.is_main_process:
            last = max(int(read_state(member)["step"]) for member in members)
            write_state(target, asdict(State(last, metrics, "")))
            self.run.note_best(shipped, metric.name, value_of(shipped, metric))
            if not shipped.name.startswith("average") or shipped == target:
                self.run.write("average.json", result)
            else:  # the one that ships keeps its record
                shutil.rmtree(target)
        self.progress.note(
            f"average of {', '.join(member.name for member in members)}: validation {metric.name} {_shown(mine)}, best "
            f"single ({single.name}) {_shown(theirs)}; {shipped.name} ships"
        )
        return result

    def _better(self, target: Path, metrics: Metrics, single: Path) -> Path:
        """Which ships. An average of another count that was made before may still be the best."""
        metric = self.metric
        rivals = [single, *(average for average in self.run.averages() if average != target)]
        rival = min(rivals, key=lambda path: rank_of(read_state(path)["metrics"], metric))
        better = rank_of(metrics, metric) < rank_of(read_state(rival)["metrics"], metric)
        return target if metrics.get(metric.name) is not None and better else rival


def average_run(run: Run, count: int, device: str = "auto", progress: Progress = SILENT) -> Json:
    """Average a finished run's checkpoints and note which ships; returns what `average.json` says.

    Raises:
        GovorError: no finished run, fewer than two checkpoints, or data that is no longer the run's.
    """
    with run.held("averaged"):
        return _average_run(run, count, device, progress)


def _average_run(run: Run, count: int, device: str, progress: Progress) -> Json:
    if not run.finished:
        raise GovorError(f"{run.folder} is no finished run (run_manifest.json is missing); train it first.")
    recipe, record = recipe_of(run), run.record()
    chosen = pick_device(device).value
    accelerator = Accelerator(cpu=chosen == "cpu")
    check_same_data(run.workspace, record, recipe)
    base = run.folder / "base"
    family = family_class(family_of(base, str(run.folder)))
    metric = metric_named(recipe.evaluation.metric, family.task)
    sources = survey(run.workspace, recipe, family.load_renderer(base, recipe.examples), family.task)
    number_format = autocast(accelerator.device.type, run.read("precision.json")["value"])
    judge = Judge(run, metric, Validation(recipe, sources, accelerator), number_format, accelerator, progress)
    result = judge.average(count)
    if result is None:
        raise GovorError(
            f"{run.folder} keeps fewer than two checkpoints, so there is nothing to average; train with more evaluations."
        )
    best = run.best_checkpoint()
    state = read_state(best)
    chance = run.read("diagnosis.json")["figures"].get("loss_chance") if run.holds("diagnosis.json") else None
    write_diagnosis(run, metric, chance)
    summary = {**run.read("metrics.json"), "best_checkpoint": best.name, "best_step": state["step"]}
    summary |= {"metrics": state["metrics"], "average": result}
    run.write("metrics.json", summary)
    run.write_record(replace(record, result=summary))
    return result


def _best_kept(run: Run, count: int) -> list[Path]:
    """The checkpoints of the lowest loss, best first, up to the first that is no longer kept."""
    by_loss = sorted(
        (row for row in run.metrics("eval") if row["step"] and row.get("loss") is not None),
        key=lambda row: float(row["loss"]),
    )
    best = [run.checkpoints / f"step-{row['step']:06d}" for row in by_loss[:count]]
    return list(itertools.takewhile(is_whole, best))


def inverse_loss_weights(losses: Sequence[float]) -> list[float]:
    """Shares proportional to 1 / loss."""
    inverse = [1 / max(loss, 1e-12) for loss in losses]
    return [value / sum(inverse) for value in inverse]


def write_average(run: Run, members: Sequence[Path], weights: Sequence[float], target: Path) -> None:
    """Write the weighted mean of `members` as one more checkpoint of `run`."""
    with atomic_folder(target, "the average", replace=True) as folder:
        if all((member / adapters.WEIGHTS).exists() for member in members):
            mean = _mean_of_adapters(run, members, weights)
        else:
            mean = mean_of([member / "model.safetensors" for member in members], weights)
        save_file(mean, folder / "model.safetensors")
        if is_whole(target):  # made before: whoever is killed before it is scored anew leaves it whole
            write_state(folder, read_state(target))


def mean_of(files: Sequence[Path], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """The weighted mean of safetensors files, tensor by tensor in float64; integers are taken from the first.

    Raises:
        GovorError: the files hold other tensors, shapes or number formats.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, "pt")) for file in files]
        names = list(opened[0].keys())
        for file, other in zip(files, opened, strict=True):
            if set(other.keys()) != set(names):
                odd = sorted(set(other.keys()) ^ set(names))[0]
                raise GovorError(
                    f"{file} and {files[0]} do not hold the same tensors (first: {odd}); nothing was averaged."
                )
        mean = {}
        for name in names:
            tensors = [other.get_tensor(name) for other in opened]
            kinds = {(tensor.dtype, tuple(tensor.shape)) for tensor in tensors}
            if len(kinds) > 1:
                raise GovorError(
                    f"'{name}' differs in shape or number format between the checkpoints; nothing was averaged."
                )
            mean[name] = _weighted(tensors, weights)
        return mean


def _weighted(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first
    total = torch.zeros_like(first, dtype=torch.float64)
    for tensor, weight in zip(tensors, weights, strict=True):
        total += weight * tensor.double()
    return total.to(first.dtype)


def _mean_of_adapters(run: Run, members: Sequence[Path], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """The mean of merged models: the base with the mean of the updates B·A added."""
    base = load_base(run)
    stored = [load_file(member / adapters.WEIGHTS) for member in members]
    if any(other.keys() != stored[0].keys() for other in stored):
        raise GovorError("The checkpoints have adapters on different layers; nothing was averaged.")
    parameters = dict(base.module.named_parameters())
    scale = adapters.scaling(members[0])
    for name in stored[0]:
        if ".lora_A." not in name:
            continue
        weight = parameters[adapters.adapted_weight(name)]
        other = name.replace(".lora_A.", ".lora_B.")
        update = sum(
            share * scale * (factors[other].double() @ factors[name].double())
            for share, factors in zip(weights, stored, strict=True)
        )
        weight.data = (weight.data.double() + update).to(weight.dtype)
    return weights_of(base.module)


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
