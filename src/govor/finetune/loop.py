"""The loop: steps of a fixed number of clips, a loss per taught token, an evaluation with a checkpoint.

The plan says which clips; this file moves them through the model. What it promises: how the clips of a step are
batched, accumulated or spread over devices changes nothing but rounding; a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from govor.errors import GovorError
from govor.examples.batching import Plan, draw_seed
from govor.examples.dataset import Step, convert, step_loader
from govor.families.base import Batch, Family
from govor.finetune.optim import build_optimizer, lr_factor, set_dropout
from govor.recipe import Finetune

Batches = list[tuple[Batch, bool]]


class Watcher(Protocol):
    """Told of every step; evaluates and saves when it is time."""

    def trained(self, record: StepRecord) -> None:
        """After every optimiser step."""
        ...

    def due(self, step: int) -> bool:
        """Whether to evaluate after `step` steps."""
        ...

    def evaluate(self, step: int) -> None:
        """Evaluate and save a checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step. `loss` is the mean over the step's taught tokens, before the update."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    micro_batches: int
    audio_seconds: float
    seconds: float


class _Loss(nn.Module):
    """The family's loss as a module's forward, so that wrappers for many devices see it."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family
        self.module = family.module

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return self.family.loss(batch)


class Trainer:
    """One run in memory: model, optimiser and plan."""

    def __init__(
        self, family: Family, plan: Plan, settings: Finetune, total_steps: int, accelerator: Accelerator
    ) -> None:
        self.family, self.plan, self.settings = family, plan, settings
        self.total_steps, self.accelerator = total_steps, accelerator
        warmup = settings.warmup_steps
        self.warmup_steps = total_steps // 10 if warmup is None else warmup
        self.halvings = 0
        set_dropout(family.module, settings.dropout)
        family.module.to(accelerator.device)
        self.optimizer = build_optimizer(family.module, settings.lr, settings.weight_decay, settings.beta2)
        # The optimiser stays ours: accelerate's wrapper would step it only when it thinks accumulation is over.
        self._loss = accelerator.prepare_model(_Loss(family))

    def run(self, first_step: int, watcher: Watcher) -> None:
        """Train from `first_step` (steps already done) to the end.

        Raises:
            GovorError: the loss or gradient is no longer a number; the update was not made.
        """
        for step in self._steps(first_step):
            started = time.perf_counter()
            record = self._train_step(step, started)
            watcher.trained(record)
            if watcher.due(record.step):
                watcher.evaluate(record.step)

    def _steps(self, first: int) -> Iterator[Step]:
        pin = self.accelerator.device.type == "cuda"
        workers = self.settings.loader_workers
        return step_loader(self.plan, self.accelerator.process_index, first, self.total_steps, workers, pin)

    def _train_step(self, step: Step, started: float) -> StepRecord:
        number = step.number
        lr = self.settings.lr * lr_factor(number, self.total_steps, self.warmup_steps, self.settings.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        batches, loss_sum, weight = self._accumulate_within_memory(step.batches, number)
        scale = self.accelerator.num_processes / weight  # several devices hold the mean of their gradients
        for parameter in self.family.module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        trainable = [parameter for parameter in self.family.module.parameters() if parameter.requires_grad]
        norm = float(torch.nn.utils.clip_grad_norm_(trainable, self.settings.max_grad_norm))
        loss = loss_sum / weight
        if not (math.isfinite(norm) and math.isfinite(loss)):
            raise GovorError(
                f"Step {number + 1} gave loss {loss} and gradient norm {norm}, which are no numbers; the update was not made. "
                f"Lower finetune.lr (now {self.settings.lr:g}) or use finetune.precision=fp32; the last checkpoint is whole."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        audio = self._sum(step.audio_seconds)
        return StepRecord(number + 1, loss, lr, norm, int(weight), len(batches), audio, time.perf_counter() - started)

    def _accumulate_within_memory(self, batches: Batches, number: int) -> tuple[Batches, float, float]:
        """Accumulate the step's gradient; out of memory halves the micro-batches and tries the step again."""
        for _ in range(self.halvings):
            batches = _halved(batches)
        while True:
            try:
                return (batches, *self._accumulate(batches, number))
            except torch.OutOfMemoryError:
                smaller = _halved(batches)
                if len(smaller) == len(batches) or self.accelerator.num_processes > 1:
                    raise GovorError(
                        "The device ran out of memory; lower finetune.max_batch_audio_seconds "
                        f"(now {self.plan.max_batch_audio_seconds:g}). The last checkpoint is whole."
                    ) from None
                self.optimizer.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                batches, self.halvings = smaller, self.halvings + 1

    def _accumulate(self, batches: Batches, number: int) -> tuple[float, float]:
        """Backward through every micro-batch; returns loss sum and weight over all devices."""
        self._loss.train()
        # Randomness belongs to the step: a resumed run draws what the uninterrupted one drew.
        torch.manual_seed(draw_seed(self.settings.seed, "step", number, self.accelerator.process_index))
        sums = torch.zeros(2, dtype=torch.float64 if self.accelerator.device.type != "mps" else torch.float32)
        sums = sums.to(self.accelerator.device)
        for index, (batch, counts) in enumerate(batches):
            on_device = convert(batch, lambda tensor: tensor.to(self.accelerator.device, non_blocking=True))
            last = index == len(batches) - 1
            with self.accelerator.autocast():
                if last:
                    loss, weight = self._loss(on_device)
                else:
                    with self.accelerator.no_sync(self._loss):
                        loss, weight = self._loss(on_device)
            self._backward(loss if counts else loss * 0.0, last)
            if counts:
                sums += torch.stack([loss.detach().to(sums.dtype), weight.to(sums.dtype)])
        loss_sum, weight = self.accelerator.reduce(sums, "sum").tolist()
        return loss_sum, weight

    def _backward(self, loss: torch.Tensor, last: bool) -> None:
        if last:
            self.accelerator.backward(loss)
            return
        with self.accelerator.no_sync(self._loss):
            self.accelerator.backward(loss)

    def _sum(self, value: float) -> float:
        tensor = torch.tensor(value, device=self.accelerator.device)
        return float(self.accelerator.reduce(tensor, "sum"))


def _halved(batches: Batches) -> Batches:
    """Every micro-batch of more than one example in two."""
    smaller: Batches = []
    for batch, counts in batches:
        size = len(next(iter(batch.values())))
        parts = [slice(0, (size + 1) // 2), slice((size + 1) // 2, size)] if size > 1 else [slice(0, size)]
        smaller += [({name: value[part] for name, value in batch.items()}, counts) for part in parts]
    return smaller


def accelerate_precision(precision: str) -> Any:
    """Our name of a number format in accelerate's terms."""
    return "bf16" if precision == "bf16" else "no"
