"""The weighted mean of a run's best checkpoints, kept only where it scores better than the best one of them.

The members are those with the lowest validation loss, weighted by 1 / loss; adapters are merged first. The mean is
taken tensor by tensor in float64, so that memory holds one model whatever the number of members.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from govor.errors import GovorError
from govor.families import adapters
from govor.families.opening import load_base, load_checkpoint
from govor.files import atomic_folder
from govor.finetune.checkpoints import State, best_by, metric_of, note_best, rank_of, weights_of
from govor.finetune.validation import Validation
from govor.finetune.watch import read_metrics
from govor.jsons import read_json, write_json
from govor.recipe import Recipe
from govor.runs import Run


def average_and_judge(
    run: Path,
    recipe: Recipe,
    count: int,
    validation: Validation,
    autocast: AbstractContextManager[Any],
    accelerator: Accelerator,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """Average the best `count` checkpoints, score the mean on the run's validation clips, ship the better.

    Every process of a run calls this. Returns what `average.json` says; None where there are too few checkpoints.
    """
    folder, metric = run / "checkpoints", recipe.evaluation.metric
    members = _best_kept(run, count)
    if len(members) < 2:
        say(f"average: {len(members)} of the best checkpoints by loss is kept, and an average needs at least 2")
        return None
    if len(members) < count:
        say(f"average: {count} were asked for, and the best {len(members)} by loss are kept")
    target = folder / f"average-{len(members)}"
    weights = inverse_loss_weights([metric_of(member, "loss") for member in members])
    if accelerator.is_main_process:
        write_average(run, members, weights, target)
    accelerator.wait_for_everyone()
    family = load_checkpoint(Run(run), target)
    family.module.to(accelerator.device)
    metrics = validation.measure(family, autocast)
    single = best_by(folder, metric)[0]
    single_metrics = read_json(single / "state.json")["metrics"]
    mine, theirs = metrics.get(metric), single_metrics.get(metric)
    # An average of another count that was made before may still be the best.
    rivals = [single, *(path.parent for path in folder.glob("average-*/state.json") if path.parent != target)]
    rival = min(rivals, key=lambda path: rank_of(path, metric))
    rank = tuple(float("inf") if value is None else value for value in (mine, metrics.get("loss")))
    shipped = target if mine is not None and rank < rank_of(rival, metric) else rival
    result = {
        "members": [
            {"checkpoint": member.name, "loss": metric_of(member, "loss"), "weight": round(weight, 6)}
            for member, weight in zip(members, weights, strict=True)
        ],
        "metric": metric,
        "average": metrics,
        "best_single": {"checkpoint": single.name, **single_metrics},
        "shipped": shipped.name,
    }
    if accelerator.is_main_process:
        last = max(int(read_json(member / "state.json")["step"]) for member in members)
        write_json(target / "state.json", asdict(State(last, metrics, "")))
        note_best(folder, shipped, metric)
        if not shipped.name.startswith("average") or shipped == target:
            write_json(run / "average.json", result)
        else:  # the one that ships keeps its record
            shutil.rmtree(target)
    accelerator.wait_for_everyone()
    say(
        f"average of {', '.join(member.name for member in members)}: validation {metric} {_shown(mine)}, best single "
        f"({single.name}) {_shown(theirs)}; {shipped.name} ships"
    )
    return result


def _best_kept(run: Path, count: int) -> list[Path]:
    """The checkpoints of the lowest loss, best first, up to the first that is no longer kept."""
    by_loss = sorted(
        (row for row in read_metrics(run, "eval") if row["step"] and row.get("loss") is not None),
        key=lambda row: row["loss"],
    )
    best = [run / "checkpoints" / f"step-{row['step']:06d}" for row in by_loss[:count]]
    return list(itertools.takewhile(lambda path: (path / "state.json").exists(), best))


def inverse_loss_weights(losses: Sequence[float]) -> list[float]:
    """Shares proportional to 1 / loss."""
    inverse = [1 / max(loss, 1e-12) for loss in losses]
    return [value / sum(inverse) for value in inverse]


def write_average(run: Path, members: Sequence[Path], weights: Sequence[float], target: Path) -> None:
    """Write the weighted mean of `members` as one more checkpoint of `run`."""
    with atomic_folder(target, "the average", replace=True) as folder:
        if all((member / adapters.WEIGHTS).exists() for member in members):
            mean = _mean_of_adapters(run, members, weights)
        else:
            mean = mean_of([member / "model.safetensors" for member in members], weights)
        save_file(mean, folder / "model.safetensors")
        if (target / "state.json").exists():  # made before: whoever is killed before it is scored anew leaves it whole
            shutil.copy2(target / "state.json", folder / "state.json")


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


def _mean_of_adapters(run: Path, members: Sequence[Path], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """The mean of merged models: the base with the mean of the updates B·A added."""
    base = load_base(Run(run))
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
            share * scale * (held[other].double() @ held[name].double())
            for share, held in zip(weights, stored, strict=True)
        )
        weight.data = (weight.data.double() + update).to(weight.dtype)
    return weights_of(base.module)


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
