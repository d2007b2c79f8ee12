"""Checkpoints that are whole or not there, and which of them to keep.

checkpoints/step-000100/   model.safetensors  optimizer.safetensors  state.json
checkpoints/best.json      which one the metric names best
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from govor.errors import GovorError
from govor.files import atomic_folder, read_json, write_json


@dataclass(frozen=True, slots=True)
class State:
    """Where a run stands. `step` optimiser steps are done; `metrics` are those of the evaluation there."""

    step: int
    metrics: dict[str, float | None]
    data_sha256: str


def save(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> Path:
    """Write one checkpoint; a failed write leaves the earlier ones as they are."""
    target = folder / f"step-{state.step:06d}"
    with atomic_folder(target, f"the checkpoint of step {state.step}", replace=True) as temporary:
        save_file(weights_of(module), temporary / "model.safetensors")
        save_file(_optimizer_tensors(module, optimizer), temporary / "optimizer.safetensors")
        write_json(temporary / "state.json", asdict(state))
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


def restore(checkpoint: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Load weights and optimiser state in place."""
    try:
        weights = load_file(checkpoint / "model.safetensors")
        if weights.keys() != weights_of(module).keys():
            raise GovorError(f"The checkpoint {checkpoint} belongs to another model; train anew under another name.")
        module.load_state_dict(weights, strict=False)  # tied tensors are stored once
        stored = load_file(checkpoint / "optimizer.safetensors")
        state = State(**read_json(checkpoint / "state.json"))
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise GovorError(
            f"The checkpoint {checkpoint} cannot be read ({error}); delete it to go on from the one before."
        ) from error
    for name, parameter in module.named_parameters():
        if f"exp_avg.{name}" in stored:
            optimizer.state[parameter] = {
                "step": stored[f"step.{name}"],
                "exp_avg": stored[f"exp_avg.{name}"].to(parameter.device),
                "exp_avg_sq": stored[f"exp_avg_sq.{name}"].to(parameter.device),
            }
    return state


def finished(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    whole = (path for path in folder.glob("step-*") if (path / "state.json").exists())
    return sorted(whole, key=lambda path: int(path.name.removeprefix("step-")))


def metric_of(checkpoint: Path, metric: str) -> float:
    """A checkpoint's value of `metric`; infinity where it was not measured."""
    value: Any = read_json(checkpoint / "state.json")["metrics"].get(metric)
    return float("inf") if value is None else float(value)


def prune(folder: Path, metric: str, keep_best: int) -> Path:
    """Note the best checkpoint and delete all but the best `keep_best` and the last; returns the best."""
    checkpoints = finished(folder)
    # Of equals the earlier one: it has seen less of the data and lost nothing.
    ranked = sorted(checkpoints, key=lambda path: metric_of(path, metric))
    best = ranked[0]
    value = metric_of(best, metric)
    write_json(
        folder / "best.json",
        {"checkpoint": best.name, "metric": metric, "value": None if value == float("inf") else value},
    )
    for path in checkpoints:
        if path not in ranked[:keep_best] and path != checkpoints[-1]:
            shutil.rmtree(path)
    for leftover in folder.glob(".step-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    return best


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value.detach().contiguous()
    return tensors


def recipe_difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ, as `name: old → new`."""
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += recipe_difference(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {json.dumps(a)} → {json.dumps(b)}")
    return found
