"""What happens around the steps: metrics, log, evaluations, checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object

from govor.corpus.manifests import Manifest
from govor.corpus.records import Clip
from govor.examples.batching import pack
from govor.examples.dataset import convert, load_batch
from govor.examples.spec import ExampleSpec
from govor.families.base import ContextMode, Recogniser
from govor.finetune import checkpoints
from govor.finetune.checkpoints import State
from govor.finetune.loop import StepRecord, Trainer
from govor.measure.evaluate import transcribe_clips, with_counts
from govor.measure.wer import Counts, total
from govor.recipe import Recipe
from govor.runs import JsonLines, RunLog, memory_mb


class Reporter(Protocol):
    """What a run tells whoever watches it."""

    def note(self, text: str) -> None:
        """A line."""
        ...

    def step(self, record: StepRecord, total_steps: int) -> None:
        """A step is done."""
        ...

    def evaluated(self, step: int, metrics: dict[str, float | None]) -> None:
        """An evaluation is done."""
        ...


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Evenly spaced, the last one at the end."""
    count = min(evaluations, steps)
    return {math.ceil(index * steps / count) for index in range(1, count + 1)}


class Watch:
    """Writes the run's metrics, evaluates and saves when it is time."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        trainer: Trainer,
        validation: Manifest,
        data_sha256: str,
        reporter: Reporter,
        done: int,
    ) -> None:
        self.recipe, self.run, self.trainer, self.reporter = recipe, run, trainer, reporter
        self.accelerator = trainer.accelerator
        self.main = self.accelerator.is_main_process
        self.steps = evaluation_steps(trainer.total_steps, recipe.evaluation.evaluations)
        self.loss_clips = _spread(validation, recipe.evaluation.loss_clips)
        self.decode_clips = _spread(validation, recipe.evaluation.decode_clips)
        self.context: ContextMode = recipe.examples.context
        self.data_sha256 = data_sha256
        self.metrics = JsonLines(run / "metrics.jsonl", keep_until_step=done) if self.main else None
        self._log = RunLog(recipe.name, "train") if self.main else None

    def log(self, message: str, **values: Any) -> None:
        if self._log:
            self._log.write(message, **values)

    def close(self) -> None:
        if self.metrics and self._log:
            self.metrics.close()
            self._log.close()

    def due(self, step: int) -> bool:
        return step in self.steps

    def trained(self, record: StepRecord) -> None:
        if not (self.metrics and self._log):
            return
        values = {
            "step": record.step,
            "loss": record.loss,
            "lr": record.lr,
            "grad_norm": record.grad_norm,
            "tokens": record.tokens,
            "micro_batches": record.micro_batches,
            "audio_seconds": round(record.audio_seconds, 3),
            "seconds": round(record.seconds, 4),
        }
        self.metrics.write(kind="train", **values)
        self.log("step", **values, **device_figures())
        self.reporter.step(record, self.trainer.total_steps)

    def baseline(self) -> None:
        """The loss before the first step, so that the curve has a beginning."""
        self._write(0, {"loss": self._validation_loss(), "wer": None, "cer": None})

    def evaluate(self, step: int) -> None:
        metrics: dict[str, float | None] = {"loss": self._validation_loss(), **self._error_rates()}
        self._write(step, metrics)
        if self.main:
            folder = self.run / "checkpoints"
            metric = self.recipe.evaluation.metric
            state = State(step, metrics, self.data_sha256)
            checkpoints.save(folder, self.trainer.family.module, self.trainer.optimizer, state)
            checkpoints.prune(folder, metric, self.recipe.evaluation.keep_best)
        self.accelerator.wait_for_everyone()

    def _write(self, step: int, metrics: dict[str, float | None]) -> None:
        if self.metrics:
            self.metrics.write(kind="eval", step=step, **metrics)
            self.log("evaluation", step=step, **metrics, **device_figures())
            self.reporter.evaluated(step, metrics)

    def _mine(self, clips: list[Clip]) -> list[Clip]:
        return clips[self.accelerator.process_index :: self.accelerator.num_processes]

    @torch.no_grad()
    def _validation_loss(self) -> float:
        family: Any = self.trainer.family
        family.module.eval()
        full = self.context == "padded"
        specs = [ExampleSpec(clip, clip.language, full_length=full) for clip in self._mine(self.loss_clips)]
        sums = torch.zeros(2, device=self.accelerator.device)
        budget = self.trainer.plan.max_batch_audio_seconds
        for batch in pack([(spec, family.encoder.context_frames(spec)) for spec in specs], budget) if specs else []:
            loaded = convert(load_batch(batch.specs, family.encoder), lambda tensor: tensor.to(self.accelerator.device))
            with self.accelerator.autocast():
                loss, weight = family.loss(loaded)
            sums += torch.stack([loss.float(), weight.float()])
        loss_sum, weight = self.accelerator.reduce(sums, "sum").tolist()
        return round(loss_sum / weight, 6) if weight else math.nan

    def _error_rates(self) -> dict[str, float | None]:
        family = self.trainer.family
        if not self.decode_clips or not isinstance(family, Recogniser):
            return {"wer": None, "cer": None}
        family.module.eval()
        clips = self._mine(self.decode_clips)
        with self.accelerator.autocast():
            rows = with_counts(transcribe_clips(family, clips, self.context)[0]) if clips else []
        if self.accelerator.num_processes > 1:
            rows = gather_object(rows)
        rates = {
            name: total(Counts(**row[unit]) for row in rows).rate
            for name, unit in (("wer", "words"), ("cer", "characters"))
        }
        return {name: None if rate is None else round(rate, 6) for name, rate in rates.items()}


def device_figures() -> dict[str, Any]:
    """Memory and utilisation; GPU fields are null without a GPU, not missing."""
    if not torch.cuda.is_available():
        return {"memory_mb": memory_mb(), "gpu_memory_mb": None, "gpu_utilization": None}
    try:
        utilisation: int | None = torch.cuda.utilization()
    except Exception:  # needs NVIDIA's management library, which a driver may lack
        utilisation = None
    peak = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return {"memory_mb": memory_mb(), "gpu_memory_mb": peak, "gpu_utilization": utilisation}


def _spread(manifest: Manifest, count: int) -> list[Clip]:
    """`count` clips spread evenly over a manifest: the same ones at every evaluation."""
    rows = len(manifest)
    return [manifest[index * rows // min(count, rows)] for index in range(min(count, rows))]
