"""How much audio fits onto a GPU at once: measured at two sizes, computed, and tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from govor.errors import GovorError
from govor.examples.batching import MicroBatch, Plan, pack
from govor.examples.dataset import convert, load_batch
from govor.finetune.loop import Trainer

_SPARE = 0.1  # of the device, for fragments and for batches with longer transcripts than those that were tried
_BYTES_OF_MOMENTS = 8  # AdamW's, in float32, per trained parameter; they come with the first update
_TRIED_SECONDS = (30.0, 120.0)
_SMALLEST_SECONDS = 30.0


def largest_budget(points: Sequence[tuple[float, int]], device_bytes: int, reserved_bytes: int) -> float:
    """Context seconds that fit, from (seconds, peak bytes) at two sizes: memory grows in a straight line.

    Raises:
        GovorError: not even the smallest useful batch fits.
    """
    (few, low), (many, high) = points
    slope = max((high - low) / (many - few), 1.0)
    room = (1 - _SPARE) * device_bytes - reserved_bytes - (low - slope * few)
    budget = room / slope
    if budget < _SMALLEST_SECONDS:
        raise GovorError(
            f"This model needs {(low + reserved_bytes) / 2**30:.1f} GiB for {few:g} s of audio and the GPU has "
            f"{device_bytes / 2**30:.1f} GiB; take method=lora, activation_checkpointing=true or a smaller model."
        )
    return budget


def fitting_budget(trainer: Trainer, say: Callable[[str], None]) -> Plan:
    """The trainer's plan with the largest budget that fits its device; unchanged where there is no GPU to measure."""
    plan = trainer.plan
    if trainer.accelerator.device.type != "cuda":
        say(f"memory: nothing is probed without a GPU; {plan.max_batch_audio_seconds:g} s of audio at once")
        return plan
    trainer.enter(trainer.phases[0])
    trained = sum(p.numel() for p in trainer.family.module.parameters() if p.requires_grad)
    points = [(_context(trainer, seconds), _peak_bytes(trainer, seconds)) for seconds in _TRIED_SECONDS]
    total = torch.cuda.get_device_properties(trainer.accelerator.device).total_memory
    budget = largest_budget(points, total, trained * _BYTES_OF_MOMENTS)
    while True:
        try:
            _peak_bytes(trainer, budget)
            break
        except torch.OutOfMemoryError:
            budget *= 0.8
            torch.cuda.empty_cache()
    agreed = float(trainer.accelerator.reduce(torch.tensor(-budget, device=trainer.accelerator.device), "max"))
    say(f"memory: {-agreed:.0f} s of audio fit at once (probed)")
    return replace(plan, max_batch_audio_seconds=-agreed)


def _largest_batch(trainer: Trainer, seconds: float) -> MicroBatch:
    plan = trainer.plan
    specs = [plan.source.spec(row, draw) for step in range(8) for draw, row in plan.draws(step)]
    batches = pack([(spec, plan.source.cost_frames(spec)) for spec in specs], seconds)
    return max(batches, key=lambda batch: batch.context_seconds)


def _context(trainer: Trainer, seconds: float) -> float:
    return _largest_batch(trainer, seconds).context_seconds


def _peak_bytes(trainer: Trainer, seconds: float) -> int:
    """Peak memory of one forward and backward pass."""
    device = trainer.accelerator.device
    torch.cuda.reset_peak_memory_stats(device)
    batch = load_batch(_largest_batch(trainer, seconds).specs, trainer.family.renderer)
    try:
        with trainer.autocast():
            loss, _ = trainer.objective(trainer.family, convert(batch, lambda tensor: tensor.to(device)))
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        trainer.optimizer.zero_grad(set_to_none=True)
    return int(torch.cuda.max_memory_allocated(device))
