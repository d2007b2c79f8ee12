"""Checkpoints that are whole or not there, and which of them to keep.

checkpoints/step-000100/   model.safetensors (or the adapters)  optimizer.safetensors  state.json
checkpoints/best.json      which one the metric names best
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from govor.errors import GovorError
from govor.families import adapters
from govor.files import atomic_folder, beside, remove
from govor.metrics.metric import LOSS, Metric
from govor.recipe import Evaluation
from govor.runs import Run, read_state, write_state

# Those that averaging wants, whatever the run's own metric is.
_BEST_BY_LOSS = 3
# Only the newest can be resumed from; the one before it stays able to, should the newest be damaged.
WITH_OPTIMIZER = 2

# Before the names of what a family made of its weights.
_REFRESHED = "refreshed/"

Metrics = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class State:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        metrics: of the evaluation there.
        data_sha256: of the manifests.
        loss_scale: of fp16 (1 elsewhere), with the steps since it last changed.
        halvings: of the micro-batches, when memory ran out.
        max_batch_audio_seconds: at once on one device, as it was set or probed.
    """

    step: int
    metrics: Metrics
    data_sha256: str
    loss_scale: float = 1.0
    good_steps: int = 0
    halvings: int = 0
    max_batch_audio_seconds: float | None = None


def save(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: State,
    save_adapters: Callable[[Path], None] | None = None,
    refreshed: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write one checkpoint; a failed write leaves the earlier ones as they are.

    With `save_adapters` the model's adapters are written by it, and not the weights below them. `refreshed` is what the
    family made of earlier weights (see `Refreshing`).
    """
    target = folder / f"step-{state.step:06d}"
    with atomic_folder(target, f"the checkpoint of step {state.step}", replace=True) as temporary:
        if save_adapters is None:
            save_file(weights_of(module), temporary / "model.safetensors")
        else:
            save_adapters(temporary)
        tensors = {f"{_REFRESHED}{name}": tensor.contiguous() for name, tensor in (refreshed or {}).items()}
        save_file(tensors | _optimizer_tensors(module, optimizer), temporary / "optimizer.safetensors")
        write_state(temporary, asdict(state))
    return target


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with tied tensors once."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in module.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            weights[name] = tensor.detach().contiguous()
    return weights


def restore(
    checkpoint: Path, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[State, dict[str, torch.Tensor]]:
    """Load weights and optimiser state in place; returns where the run stood, and what its family had `refreshed`."""
    if not (checkpoint / "optimizer.safetensors").exists():
        raise GovorError(
            f"The checkpoint {checkpoint} has no optimiser state (the newest two keep theirs), so nothing can go on from it; "
            "it can be used and packaged. Train anew under another name."
        )
    try:
        if (checkpoint / adapters.WEIGHTS).exists():
            adapters.load_weights(module, checkpoint)
        else:
            weights = load_file(checkpoint / "model.safetensors")
            if weights.keys() != weights_of(module).keys():
                raise GovorError(
                    f"The checkpoint {checkpoint} belongs to another model; train anew under another name."
                )
            module.load_state_dict(weights, strict=False)  # tied tensors are stored once
        stored = load_file(checkpoint / "optimizer.safetensors")
        state = State(**read_state(checkpoint))
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise GovorError(
            f"The checkpoint {checkpoint} cannot be read ({error}); delete it to go on from the one before."
        ) from error
    for name, parameter in module.named_parameters():
        if f"exp_avg.{name}" in stored:
            optimizer.state[parameter] = {
                "step": stored[f"step.{name}"].to(parameter.device),  # a fused optimiser wants it there
                "exp_avg": stored[f"exp_avg.{name}"].to(parameter.device),
                "exp_avg_sq": stored[f"exp_avg_sq.{name}"].to(parameter.device),
            }
    refreshed = {
        name.removeprefix(_REFRESHED): tensor for name, tensor in stored.items() if name.startswith(_REFRESHED)
    }
    return state, refreshed


def value_of(checkpoint: Path, metric: Metric) -> float | None:
    """A checkpoint's value of a metric; None where it was not measured."""
    value: float | None = read_state(checkpoint)["metrics"].get(metric.name)
    return value


def rank_of(metrics: Metrics, metric: Metric) -> tuple[float, float]:
    """By what checkpoints are ranked, the lowest first: the metric, and of equals the loss."""
    return metric.rank(metrics.get(metric.name)), LOSS.rank(metrics.get(LOSS.name))


def best_by(run: Run, metric: Metric) -> list[Path]:
    """Whole checkpoints by rank; of equals the earlier, which has lost nothing by seeing less."""
    return sorted(run.whole_checkpoints(), key=lambda path: rank_of(read_state(path)["metrics"], metric))


def prune(run: Run, metric: Metric, keep_best: int, keep_by_loss: int = _BEST_BY_LOSS) -> Path:
    """Note the best checkpoint and delete what nobody will ask for; returns the best.

    Kept: the best `keep_best` by the metric, the best three or `keep_by_loss` by loss, the last two. One that was saved
    when a run was interrupted, and was not measured, goes as soon as there is a later one.
    """
    for path in run.whole_checkpoints()[:-1]:
        if not read_state(path)["metrics"]:
            _delete(path)
    checkpoints, ranked = run.whole_checkpoints(), best_by(run, metric)
    run.note_best(ranked[0], metric.name, value_of(ranked[0], metric))
    by_loss = best_by(run, LOSS)[: max(keep_by_loss, _BEST_BY_LOSS)]
    wanted = {*ranked[:keep_best], *by_loss, *checkpoints[-WITH_OPTIMIZER:]}
    for path in checkpoints:
        if path not in wanted:
            _delete(path)
        elif path not in checkpoints[-WITH_OPTIMIZER:]:
            (path / "optimizer.safetensors").unlink(missing_ok=True)
    return ranked[0]


def most_kept(recipe: Evaluation, evaluations: int) -> tuple[int, int]:
    """How many checkpoints lie there at once, the one that is being written included: at least, and at most."""
    by_loss = max(recipe.average, _BEST_BY_LOSS)
    fewest = max(by_loss, recipe.keep_best) + 1
    most = (by_loss if recipe.metric == LOSS.name else by_loss + recipe.keep_best) + WITH_OPTIMIZER + 1
    most = max(fewest, most)
    return min(fewest, evaluations), min(most, evaluations)


def _delete(checkpoint: Path) -> None:
    """Never half there: killed in between, it has no name of a checkpoint."""
    gone = beside(checkpoint)
    checkpoint.rename(gone)
    remove(gone)


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value.detach().contiguous()
    return tensors
