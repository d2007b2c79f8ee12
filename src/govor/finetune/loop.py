"""The loop: steps of a fixed number of clips, a loss per taught token, an evaluation with a checkpoint.

The plan says which clips; this file moves them through the model. What it promises: how the clips of a step are
batched, accumulated or spread over devices changes nothing but rounding; a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from govor.device import autocast
from govor.errors import GovorError
from govor.examples.batching import Plan
from govor.examples.dataset import Step, Unread, convert, step_loader
from govor.examples.mixing import draw_seed
from govor.examples.phases import Phase
from govor.families.adapters import has_adapters
from govor.families.base import Batch, Family, Refreshing
from govor.finetune import groups
from govor.finetune.groups import Group
from govor.finetune.objective import Objective, objective_of
from govor.finetune.optim import build_optimizer, rate_factor, recomputing, set_dropout, set_rates
from govor.finetune.phases import phase_at
from govor.finetune.speed import counted_flops, device_flops
from govor.recipe import Finetune

Batches = list[tuple[Batch, bool]]
# fp16 gradients are computed at this scale (2^16, as in Micikevicius et al. 2018), halved when they overflow and
# doubled after so many steps without.
_FIRST_LOSS_SCALE = 2.0**16
_STEPS_TO_DOUBLE = 1000
_BUCKET_ELEMENTS = 25_000_000  # gradients summed over devices at once: 100 MB


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step. `loss` is the mean over the step's taught tokens, before the update.

    `mfu` is the share of the device's arithmetic that the model needed (see `govor.finetune.speed`), `devices` how many there
    are. `rates` is the learning rate by parameter group; `drawn` counts the examples of all devices (see `Step`); `halvings`
    says how often micro-batches were halved until then, since memory ran out. Where no clip of the step could be read,
    `tokens` is 0 and nothing was updated.
    """

    step: int
    phase: str
    loss: float
    rates: dict[str, float]
    grad_norm: float
    tokens: int
    micro_batches: int
    audio_seconds: float
    drawn: dict[str, int]
    seconds: float
    halvings: int = 0
    unread: tuple[Unread, ...] = ()
    mfu: float = 0.0
    devices: int = 1

    @property
    def audio_hours_per_device_hour(self) -> float:
        """How much audio one device learns from in an hour."""
        return self.audio_seconds / self.seconds / self.devices

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
        phases: Sequence[Phase],
        accelerator: Accelerator,
        precision: str = "fp32",
        objective: Objective | None = None,
    ) -> None:
        """`objective` is what is minimised: by default what `objective_of` finds for the settings."""
        self.family, self.plan, self.settings = family, plan, settings
        self.phases, self.accelerator, self.precision = phases, accelerator, precision
        self.objective = objective or objective_of(settings)
        self.halvings = 0
        # What a second of audio costs, counted at the first step of every phase; what the device can do.
        self._flops_per_audio_second, self._counted_in, self._device_flops = 0.0, "", 0.0
        # After so many steps the family makes anew what it keeps of its weights; 0 where it keeps nothing.
        self.refresh_steps = 0
        self.loss_scale = _FIRST_LOSS_SCALE if precision == "fp16" else 1.0
        self.good_steps = 0
        set_dropout(family.module, settings.dropout)
        if settings.activation_checkpointing:
            recomputing(family).gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        family.module.to(accelerator.device)
        self._optimizer: torch.optim.Optimizer | None = None
        self._phase: Phase | None = None
        self.groups: list[Group] = []

    @property
    def total_steps(self) -> int:
        """Of the whole run."""
        return self.phases[-1].end

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """That of the phase that was entered last."""
        assert self._optimizer is not None
        return self._optimizer

    def autocast(self) -> AbstractContextManager[Any]:
        """The run's number format."""
        return autocast(self.accelerator.device.type, self.precision)

    def enter(self, phase: Phase) -> list[Group]:
        """Train the phase's groups, which are returned; what trained before and trains on keeps its optimiser state."""
        if phase is self._phase:
            return self.groups
        module, parts = self.family.module, self.family.parts()
        if has_adapters(module):
            parts = groups.adapter_parts(parts)
        self.groups = groups.assign(parts, phase.rates)
        groups.freeze_all_but(module, self.groups)
        settings = self.settings
        self._optimizer = build_optimizer(module, self.groups, settings.weight_decay, settings.beta2, self._optimizer)
        self._phase = phase
        return self.groups

    def steps(self, first: int) -> Iterator[StepRecord]:
        """Train from `first` (steps already done) to the end of the run, a step whenever the next record is asked for.

        Each phase is entered at its first step, unless it has been.

        Raises:
            GovorError: the loss or gradient is no longer a number, and the update was not made.
        """
        for step in self._loaded(first):
            started = time.perf_counter()
            phase = phase_at(self.phases, step.number)
            self.enter(phase)
            yield self._train_step(step, phase, started)

    def _loaded(self, first: int) -> Iterator[Step]:
        pin = self.accelerator.device.type == "cuda"
        workers = self.settings.loader_workers
        return step_loader(self.plan, self.accelerator.process_index, first, self.total_steps, workers, pin)

    def _train_step(self, step: Step, phase: Phase, started: float) -> StepRecord:
        number = step.number
        self._refresh(number)
        rates = set_rates(self.optimizer, rate_factor(phase, number))
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        while True:
            batches, loss_sum, weight = self._counted(step, phase)
            if not weight:
                self.optimizer.zero_grad(set_to_none=True)
                return self._record(step, phase, started, rates)
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
        # The fused AdamW does not count its changes, and what is made of weights is made anew by that count.
        torch.autograd.graph.increment_version(trained)
        self.optimizer.zero_grad(set_to_none=True)
        self._raise_loss_scale()
        record = self._record(step, phase, started, rates)
        return replace(
            record,
            loss=loss,
            grad_norm=norm,
            tokens=int(weight),
            micro_batches=len(batches),
            audio_seconds=self.sum(step.audio_seconds),
            mfu=self._flops_per_audio_second * step.audio_seconds / record.seconds / self._device_flops,
            devices=self.accelerator.num_processes,
        )

    def _refresh(self, number: int) -> None:
        """Where it is time. The steps at which it is depend on their numbers alone, and a checkpoint holds what was made."""
        family = self.family
        if not self.refresh_steps or not isinstance(family, Refreshing):
            return
        if number % self.refresh_steps == 0 or not family.refreshed():
            with self.autocast():
                family.refresh()

    def _counted(self, step: Step, phase: Phase) -> tuple[Batches, float, float]:
        """A step's gradient; in the first of a phase its arithmetic is counted, which takes a little longer."""
        if phase.name == self._counted_in or not step.audio_seconds:
            return self._accumulate_within_memory(step.batches, step.number)
        self._device_flops = self._device_flops or device_flops(self.accelerator.device, self.precision)
        gradient, flops = counted_flops(lambda: self._accumulate_within_memory(step.batches, step.number))
        self._flops_per_audio_second, self._counted_in = flops / step.audio_seconds, phase.name
        return gradient

    def _record(self, step: Step, phase: Phase, started: float, rates: dict[str, float]) -> StepRecord:
        """Of a step of which no clip could be read."""
        return StepRecord(
            step.number + 1,
            phase.name,
            loss=math.nan,
            rates=rates,
            grad_norm=0.0,
            tokens=0,
            micro_batches=0,
            audio_seconds=0.0,
            drawn=step.drawn,
            seconds=time.perf_counter() - started,
            halvings=self.halvings,
            unread=step.unread,
        )

    def _lower_loss_scale(self, number: int, loss: float, norm: float) -> None:
        """fp16 overflowed: the step is done again at half the scale. Anywhere else it is the end."""
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

    def _accumulate_within_memory(self, batches: Batches, number: int) -> tuple[Batches, float, float]:
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
            if not self.sum(float(full)):
                loss_sum, weight = self._reduced(sums)
                return batches, loss_sum, weight
            smaller = _halved(batches)
            if not self.sum(float(len(smaller) - len(batches))):
                raise GovorError(
                    "The device ran out of memory with a single clip; set finetune.activation_checkpointing=true and go on "
                    "from the last checkpoint, which is whole, with --resume; or cut the clips shorter, or take a smaller model."
                )
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            batches, self.halvings = smaller, self.halvings + 1

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
                loss, weight = self.objective(self.family, on_device)
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

    def sum(self, value: float) -> float:
        """A number summed over all devices."""
        tensor = torch.tensor(value, device=self.accelerator.device)
        return float(self.accelerator.reduce(tensor, "sum"))


def _buckets(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Gradients in lists of a bounded number of elements: one message each."""
    bucket: list[torch.Tensor] = []
    elements = 0
    for gradient in gradients:
        bucket.append(gradient)
        elements += gradient.numel()
        if elements >= _BUCKET_ELEMENTS:
            yield bucket
            bucket, elements = [], 0
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
