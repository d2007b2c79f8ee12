"""The loop: steps of a fixed number of clips, a loss per taught token, an evaluation with a checkpoint.

The plan says which clips; this file moves them through the model. What it promises: how the clips of a step are
batched, accumulated or spread over devices changes nothing but rounding; a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from govor.device import autocast
from govor.errors import GovorError
from govor.examples.batching import Plan
from govor.examples.dataset import Step, Unread, convert, step_loader
from govor.examples.mixing import draw_seed
from govor.families.adapters import has_adapters
from govor.families.base import Batch, Family
from govor.finetune import groups
from govor.finetune.groups import Group
from govor.finetune.optim import build_optimizer, set_dropout, set_rates
from govor.finetune.phases import Stage, stage_at
from govor.recipe import Finetune

Batches = list[tuple[Batch, bool]]
# fp16 gradients are computed at this scale (2^16, as in Micikevicius et al. 2018), halved when they overflow and
# doubled after so many steps without.
_FIRST_LOSS_SCALE = 2.0**16
_STEPS_TO_DOUBLE = 1000
# So many steps in a row without a clip that can be read, and so many such clips, are a disk that is gone.
_STEPS_OF_NOTHING, _CLIPS_OF_NOTHING = 3, 10
_BUCKET_ELEMENTS = 25_000_000  # gradients summed over devices at once: 100 MB


class Watcher(Protocol):
    """Told of every step; evaluates and saves when it is time."""

    def entered(self, stage: Stage, trained: Sequence[Group]) -> None:
        """Before the first step of a stage."""
        ...

    def trained(self, record: StepRecord) -> None:
        """After every optimiser step."""
        ...

    def halved(self, step: int, halvings: int) -> None:
        """Memory ran out at `step`; micro-batches are smaller from there on."""
        ...

    def due(self, step: int) -> bool:
        """Whether to evaluate after `step` steps."""
        ...

    def evaluate(self, step: int) -> bool:
        """Evaluate and save a checkpoint; False ends the run."""
        ...


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step. `loss` is the mean over the step's taught tokens, before the update.

    `rates` is the learning rate by parameter group; `drawn` counts the examples of all devices (see `Step`). Where no clip
    of the step could be read, `tokens` is 0 and nothing was updated.
    """

    step: int
    stage: str
    loss: float
    rates: dict[str, float]
    grad_norm: float
    tokens: int
    micro_batches: int
    audio_seconds: float
    drawn: dict[str, int]
    seconds: float
    unread: tuple[Unread, ...] = ()

    @property
    def lr(self) -> float:
        """The largest of the rates."""
        return max(self.rates.values())


class Trainer:
    """One run in memory: model, optimiser and plan."""

    def __init__(
        self,
        family: Family,
        plan: Plan,
        settings: Finetune,
        stages: Sequence[Stage],
        accelerator: Accelerator,
        precision: str = "fp32",
    ) -> None:
        self.family, self.plan, self.settings = family, plan, settings
        self.stages, self.accelerator, self.precision = stages, accelerator, precision
        self.halvings = 0
        self.loss_scale = _FIRST_LOSS_SCALE if precision == "fp16" else 1.0
        self.good_steps = 0
        set_dropout(family.module, settings.dropout)
        if settings.activation_checkpointing:
            module: Any = family.module
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        family.module.to(accelerator.device)
        self.optimizer: torch.optim.Optimizer | None = None
        self.groups: list[Group] = []

    @property
    def total_steps(self) -> int:
        """Of the whole run."""
        return self.stages[-1].end

    def autocast(self) -> AbstractContextManager[Any]:
        """The run's number format."""
        return autocast(self.accelerator.device.type, self.precision)

    def enter(self, stage: Stage) -> torch.optim.Optimizer:
        """Train the stage's groups; what trained before and trains on keeps its optimiser state."""
        module, parts = self.family.module, self.family.parts()
        if has_adapters(module):
            parts = groups.adapter_parts(parts)
        self.groups = groups.assign(parts, stage.rates)
        groups.freeze_all_but(module, self.groups)
        settings = self.settings
        self.optimizer = build_optimizer(module, self.groups, settings.weight_decay, settings.beta2, self.optimizer)
        return self.optimizer

    def run(self, first_step: int, watcher: Watcher) -> None:
        """Train from `first_step` (steps already done) to the end.

        Raises:
            GovorError: the loss or gradient is no longer a number, and the update was not made; or no audio is left.
        """
        stage = None
        nothing: list[Unread] = []
        empty = 0
        for step in self._steps(first_step):
            started = time.perf_counter()
            if stage is not stage_at(self.stages, step.number):
                stage = stage_at(self.stages, step.number)
                self.enter(stage)
                watcher.entered(stage, self.groups)
            record = self._train_step(step, stage, started, watcher)
            watcher.trained(record)
            nothing, empty = ([], 0) if record.tokens else ([*nothing, *record.unread], empty + 1)
            if empty >= _STEPS_OF_NOTHING and self._sum(float(len(nothing))) >= _CLIPS_OF_NOTHING:
                raise GovorError(
                    f"None of the clips of the last {empty} steps can be read"
                    + (f" (the last: {nothing[-1].message.rstrip('.')})" if nothing else "")
                    + "; mend that and go on with --resume. The last checkpoint is whole."
                )
            if watcher.due(record.step) and not watcher.evaluate(record.step):
                return

    def _steps(self, first: int) -> Iterator[Step]:
        pin = self.accelerator.device.type == "cuda"
        workers = self.settings.loader_workers
        return step_loader(self.plan, self.accelerator.process_index, first, self.total_steps, workers, pin)

    def _train_step(self, step: Step, stage: Stage, started: float, watcher: Watcher) -> StepRecord:
        number = step.number
        assert self.optimizer is not None
        rates = set_rates(self.optimizer, stage.factor(number))
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        while True:
            batches, loss_sum, weight = self._accumulate_within_memory(step.batches, number, watcher)
            if not weight:
                self.optimizer.zero_grad(set_to_none=True)
                drawn, took = step.drawn, time.perf_counter() - started
                return StepRecord(number + 1, stage.name, math.nan, rates, 0.0, 0, 0, 0.0, drawn, took, step.unread)
            self._sum_gradients(trained, 1.0 / (weight * self.loss_scale))
            norm = float(torch.nn.utils.clip_grad_norm_(trained, self.settings.max_grad_norm))
            loss = loss_sum / weight
            if math.isfinite(norm) and math.isfinite(loss):
                break
            self._lower_loss_scale(number, loss, norm)
        try:
            self.optimizer.step()
        except torch.OutOfMemoryError:
            raise GovorError(
                "The device ran out of memory for AdamW's moments (8 bytes for each trained parameter); take "
                "finetune.method=lora, fewer groups or a smaller model. The last checkpoint is whole."
            ) from None
        self.optimizer.zero_grad(set_to_none=True)
        self._raise_loss_scale()
        seconds = time.perf_counter() - started
        audio = self._sum(step.audio_seconds)
        return StepRecord(
            number + 1,
            stage.name,
            loss,
            rates,
            norm,
            int(weight),
            len(batches),
            audio,
            step.drawn,
            seconds,
            step.unread,
        )

    def _lower_loss_scale(self, number: int, loss: float, norm: float) -> None:
        """fp16 overflowed: the step is done again at half the scale. Anywhere else it is the end."""
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        if self.loss_scale <= 1.0 or not math.isfinite(loss):
            raise GovorError(
                f"Step {number + 1} gave loss {loss} and gradient norm {norm}, which are no numbers; the update was not made. "
                f"Lower finetune.lr (now {self.settings.lr:g}) or use finetune.precision=fp32, and go on from the last "
                "checkpoint, which is whole, with --resume-changed."
            )
        self.loss_scale, self.good_steps = self.loss_scale / 2, 0

    def _raise_loss_scale(self) -> None:
        if self.precision == "fp16":
            self.good_steps += 1
            if self.good_steps == _STEPS_TO_DOUBLE:
                self.loss_scale, self.good_steps = self.loss_scale * 2, 0

    def _accumulate_within_memory(
        self, batches: Batches, number: int, watcher: Watcher
    ) -> tuple[Batches, float, float]:
        """Accumulate the step's gradient; out of memory halves the micro-batches and tries the step again.

        All devices halve together, so that the step stays one step.
        """
        for _ in range(self.halvings):
            batches = _halved(batches)
        while True:
            try:
                sums, full = self._accumulate(batches, number), False
            except torch.OutOfMemoryError:
                sums, full = torch.zeros(2, dtype=torch.float64), True
            if not self._sum(float(full)):
                loss_sum, weight = self._reduced(sums)
                return batches, loss_sum, weight
            smaller = _halved(batches)
            if not self._sum(float(len(smaller) - len(batches))):
                raise GovorError(
                    "The device ran out of memory with a single clip; set finetune.activation_checkpointing=true and go on "
                    "from the last checkpoint, which is whole, with --resume; or cut the clips shorter, or take a smaller model."
                )
            assert self.optimizer is not None
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            batches, self.halvings = smaller, self.halvings + 1
            watcher.halved(number + 1, self.halvings)

    def _accumulate(self, batches: Batches, number: int) -> torch.Tensor:
        """Backward through every micro-batch; returns loss sum and weight of this device."""
        self.family.module.train()
        # Randomness belongs to the step: a resumed run draws what the uninterrupted one drew.
        torch.manual_seed(draw_seed(self.settings.seed, "step", number, self.accelerator.process_index))
        device = self.accelerator.device
        sums = torch.zeros(2, dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        for batch, counts in batches:
            if not counts:
                continue
            on_device = convert(batch, lambda tensor: tensor.to(device, non_blocking=True))
            with self.autocast():
                loss, weight = self.family.loss(on_device, label_smoothing=self.settings.label_smoothing)
            (loss * self.loss_scale).backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([loss.detach().to(sums.dtype), weight.to(sums.dtype)])
        return sums

    def _sum_gradients(self, parameters: Sequence[nn.Parameter], scale: float) -> None:
        """The sum of every device's gradients, times `scale`."""
        if self.accelerator.num_processes > 1:
            for parameter in parameters:  # a device whose micro-batches did not count has none
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
                flat = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in bucket]), "sum")
                for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                    gradient.copy_(part.view_as(gradient))
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(scale)

    def _reduced(self, sums: torch.Tensor) -> tuple[float, float]:
        loss_sum, weight = self.accelerator.reduce(sums, "sum").tolist()
        return loss_sum, weight

    def _sum(self, value: float) -> float:
        tensor = torch.tensor(value, device=self.accelerator.device)
        return float(self.accelerator.reduce(tensor, "sum"))


def _buckets(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Gradients in lists of a bounded number of elements: one message each."""
    bucket: list[torch.Tensor] = []
    held = 0
    for gradient in gradients:
        bucket.append(gradient)
        held += gradient.numel()
        if held >= _BUCKET_ELEMENTS:
            yield bucket
            bucket, held = [], 0
    if bucket:
        yield bucket


def _halved(batches: Batches) -> Batches:
    """Every micro-batch of more than one example in two."""
    smaller: Batches = []
    for batch, counts in batches:
        size = len(next(iter(batch.values())))
        parts = [slice(0, (size + 1) // 2), slice((size + 1) // 2, size)] if size > 1 else [slice(0, size)]
        smaller += [({name: value[part] for name, value in batch.items()}, counts) for part in parts]
    return smaller
