"""What happens around the steps: metrics, log, trackers, evaluations, checkpoints, and when to stop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object

from govor.corpus.manifests import rejected
from govor.errors import GovorError
from govor.examples.dataset import Unread
from govor.finetune import checkpoints
from govor.finetune.checkpoints import Metrics, State
from govor.finetune.groups import Group, table
from govor.finetune.loop import StepRecord, Trainer
from govor.finetune.phases import Stage, even_steps
from govor.finetune.stopping import Stop, StopNow
from govor.finetune.track import Trackers
from govor.finetune.upload import Uploader
from govor.finetune.validation import Validation
from govor.jsons import read_json, read_log, write_json
from govor.logs import JsonLines, RunLog
from govor.machine import memory_mb
from govor.recipe import Recipe
from govor.runs import Workspace


class Reporter(Protocol):
    """What a run tells whoever watches it."""

    def note(self, text: str) -> None:
        """A line."""
        ...

    def table(self, title: str, rows: Sequence[dict[str, Any]]) -> None:
        """Rows of the same keys."""
        ...

    def step(self, record: StepRecord, total_steps: int) -> None:
        """A step is done."""
        ...

    def evaluated(self, step: int, metrics: Metrics) -> None:
        """An evaluation is done."""
        ...


class Watch:
    """Writes the run's metrics, evaluates and saves when it is time."""

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        trainer: Trainer,
        validation: Validation,
        data_sha256: str,
        reporter: Reporter,
        done: int,
        names: Sequence[str],
        asked: dict[str, dict[str, Any]],
        save_adapters: Callable[[Path], None] | None = None,
        trackers: Trackers | None = None,
        uploader: Uploader | None = None,
        stop: Stop | None = None,
    ) -> None:
        """`names` are the sources'; `asked` holds, by stage, the asked and reachable shares of examples."""
        self.recipe, self.run, self.trainer, self.reporter = recipe, run, trainer, reporter
        self.validation, self.data_sha256 = validation, data_sha256
        self.names, self.asked = names, asked
        self.save_adapters, self.trackers, self.uploader = save_adapters, trackers, uploader
        self.stop = stop or Stop()
        self.accelerator = trainer.accelerator
        self.main = self.accelerator.is_main_process
        self.steps = even_steps(trainer.stages, recipe.evaluation.evaluations)
        self.patience = Patience(recipe, trainer.stages[-1].first_step)
        self.measured: set[int] = set()
        for row in read_metrics(run, "eval"):
            if 0 < row["step"] <= done:
                self.measured.add(row["step"])
                self.patience.heard(row["step"], _or_infinity(row.get(recipe.evaluation.metric)))
        self.drawn: Counter[str] = Counter()
        self.stage: Stage | None = None
        self.phases: dict[str, Any] = read_json(run / "phases.json") if done and (run / "phases.json").exists() else {}
        self.metrics = JsonLines(run / "metrics.jsonl", keep_until_step=done) if self.main else None
        self._log = RunLog(Workspace().logs, recipe.name, "train") if self.main else None
        self._unread: list[Unread] = []
        self._dropped = _listed(run / "dropped.jsonl") if done else set()
        if self.main and not done:
            (run / "dropped.jsonl").unlink(missing_ok=True)

    def log(self, message: str, **values: Any) -> None:
        if self._log:
            self._log.write(message, **values)

    def close(self) -> None:
        for part in (self.metrics, self._log, self.trackers):
            if part:
                part.close()

    def due(self, step: int) -> bool:
        return step in self.steps or self.stop.asked(self.accelerator)

    def owes(self, step: int) -> bool:
        """Whether the checkpoint of `step` was saved without being measured, since the run was interrupted there."""
        return step in self.steps and step not in self.measured

    @property
    def unreadable(self) -> int:
        """How many clips could not be read so far."""
        return len(self._dropped)

    def halved(self, step: int, halvings: int) -> None:
        if self.main:
            self.reporter.note(
                f"step {step}: out of memory; micro-batches are halved ({2**halvings} parts now), clips_per_step stays. "
                "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True often leaves more room."
            )
            self.log("out of memory", step=step, halvings=halvings)

    def entered(self, stage: Stage, trained: Sequence[Group]) -> None:
        self._report_shares()
        self.stage = stage
        rows = table(self.trainer.family.module, trained)
        if not self.main:
            return
        self.phases[stage.name] = {"steps": [stage.first_step, stage.end], "schedule": stage.schedule, "groups": rows}
        write_json(self.run / "phases.json", self.phases)
        title = f"phase {stage.name}: steps {stage.first_step + 1} to {stage.end}, {stage.schedule}"
        self.reporter.table(f"{title}, {stage.warmup_steps} warm-up steps", rows)
        self.log("phase", step=stage.first_step, phase=stage.name, groups=rows, schedule=stage.schedule)
        if self.trackers:
            self.trackers.note(stage.first_step, f"phase {stage.name}")

    def trained(self, record: StepRecord) -> None:
        self.drawn.update(record.drawn)
        self._heard_of_unread(record.step, record.unread)
        if not (self.metrics and self._log and record.tokens):
            return
        values: dict[str, Any] = {
            "step": record.step,
            "phase": record.stage,
            "loss": record.loss,
            "lr": record.lr,
            "lr_by_group": record.rates,
            "grad_norm": record.grad_norm,
            "tokens": record.tokens,
            "micro_batches": record.micro_batches,
            "audio_seconds": round(record.audio_seconds, 3),
            "seconds": round(record.seconds, 4),
        }
        if self.trainer.precision == "fp16":
            values["loss_scale"] = self.trainer.loss_scale
        device = device_figures()
        self.metrics.write(kind="train", **values)
        self.log("step", **values, **device)
        if self.trackers:
            tracked = {f"train/{name}": values[name] for name in ("loss", "grad_norm", "audio_seconds", "seconds")}
            rates = {f"lr/{name}": rate for name, rate in record.rates.items()}
            self.trackers.log(record.step, {**tracked, **rates, **{f"device/{k}": v for k, v in device.items()}})
        self.reporter.step(record, self.trainer.total_steps)

    def baseline(self) -> None:
        """The loss before the first step, so that the curve has a beginning."""
        metrics = self.validation.measure(self.trainer.family, self.trainer.autocast(), decode=False)
        self._list_unread(0)
        self._write(0, metrics)

    def evaluate(self, step: int) -> bool:
        """Measure, save, and say whether to go on. Where the run was asked to end the checkpoint is saved unmeasured."""
        metric = self.recipe.evaluation.metric
        if step not in self.steps:
            return self._keep_unmeasured(step, metric)
        try:
            with self.stop.between_steps():
                metrics = self.validation.measure(self.trainer.family, self.trainer.autocast())
        except StopNow:
            return self._keep_unmeasured(step, metric)
        except torch.OutOfMemoryError:
            raise GovorError(
                f"The device ran out of memory while evaluating at step {step}; lower evaluation.decode_clips and go on from "
                "the last checkpoint, which is whole, with --resume-changed; or cut the clips shorter."
            ) from None
        self._list_unread(step)
        loss = metrics["loss"]
        if loss is not None and not math.isfinite(loss):
            raise GovorError(
                f"The validation loss at step {step} is {loss}, which is no number; lower finetune.lr or use "
                "finetune.precision=fp32, and go on from the last checkpoint, which is whole, with --resume-changed."
            )
        self._write(step, metrics)
        self._tell_unmeasured(step, metrics)
        self._keep(step, metrics, metric)
        if not self.patience.heard(step, _or_infinity(metrics.get(metric))):
            if self.main and step < self.trainer.total_steps:
                waited = self.recipe.evaluation.patience
                self.reporter.note(f"stopped at step {step}: no better validation {metric} in {waited} evaluations")
                self.log("early stop", step=step, patience=waited)
            return False
        return not self.stop.asked(self.accelerator)

    def _tell_unmeasured(self, step: int, metrics: Metrics) -> None:
        """Once: what ranks the checkpoints where their metric is not measured."""
        metric = self.recipe.evaluation.metric
        if self.main and metrics.get(metric) is None and not self.measured:
            self.reporter.note(
                f"warning: {metric} could not be measured at step {step} (no validation clip was transcribed, or none has "
                f"words); checkpoints without {metric} are ranked by loss"
            )
        self.measured.add(step)

    def _keep_unmeasured(self, step: int, metric: str) -> bool:
        self._list_unread(step)
        self.stop.asked(self.accelerator)
        self._keep(step, {}, metric)
        self.log("interrupted", step=step)
        return False

    def _keep(self, step: int, metrics: Metrics, metric: str) -> None:
        if self.main:
            trainer = self.trainer
            budget = trainer.plan.max_batch_audio_seconds
            state = State(
                step, metrics, self.data_sha256, trainer.loss_scale, trainer.good_steps, trainer.halvings, budget
            )
            self._save(state, metric)
        self.accelerator.wait_for_everyone()

    def _heard_of_unread(self, step: int, unread: Sequence[Unread]) -> None:
        self._unread += unread
        if self.accelerator.num_processes == 1:
            self._list_unread(step)

    def _list_unread(self, step: int) -> None:
        """Clips that could not be read, once each; several processes put theirs together at evaluations."""
        heard, self._unread, self.validation.unread = [*self._unread, *self.validation.unread], [], []
        if self.accelerator.num_processes > 1:
            heard = gather_object(heard)
        for item in heard:
            if (key := _clip_key(item.clip.id, item.clip.audio)) in self._dropped:
                continue
            self._dropped.add(key)
            if self.main:
                self.reporter.note(f"warning: step {step}: {item.message.rstrip('.')}; the clip is left out")
                with closing(JsonLines(self.run / "dropped.jsonl")) as lines:
                    lines.write(**rejected(item.clip.to_row(), item.rule, None, None, item.message))
                self.log("unread", step=step, clip=item.clip.id, rule=item.rule)

    def _save(self, state: State, metric: str) -> None:
        folder = self.run / "checkpoints"
        optimizer = self.trainer.optimizer
        assert optimizer is not None
        saved = checkpoints.save(folder, self.trainer.family.module, optimizer, state, self.save_adapters)
        if self.uploader:
            self.uploader.upload(saved)
        wanted = self.recipe.evaluation
        best = checkpoints.prune(folder, metric, wanted.keep_best, wanted.average)
        self.log("checkpoint", step=state.step, checkpoint=saved.name, best=best.name)
        if self.trackers:
            self.trackers.note(state.step, f"checkpoint {saved.name}, best {best.name}")

    def _write(self, step: int, metrics: Metrics) -> None:
        if self.metrics:
            self.metrics.write(kind="eval", step=step, **metrics)
            self.log("evaluation", step=step, **metrics, **device_figures())
            if self.trackers:
                self.trackers.log(step, {f"validation/{name}": value for name, value in metrics.items()})
            self.reporter.evaluated(step, metrics)
        if step:
            self._report_shares()

    def _report_shares(self) -> None:
        """What has been drawn since the last report, beside what was asked for."""
        clips = self.drawn.pop("clips", 0)
        if not (clips and self.main and self.stage):
            self.drawn.clear()
            return
        realised = {
            name: round(count / clips, 4) for name, count in self.drawn.items() if not name.startswith("source")
        }
        sources = {
            name: round(self.drawn.get(f"source {index}", 0) / clips, 4) for index, name in enumerate(self.names)
        }
        self.drawn.clear()
        asked = self.asked[self.stage.name]
        self.log("shares", phase=self.stage.name, clips=clips, realised=realised, sources=sources, **asked)
        told = [
            f"{name} {realised[name]:.1%} (asked {asked['asked'][name]:.0%}, reachable {asked['reachable'][name]:.1%})"
            for name in ("timestamps", "previous", "full_length")
            if asked["asked"][name] or realised[name]
        ]
        if len(sources) > 1:
            told.append("sources " + ", ".join(f"{name} {share:.1%}" for name, share in sources.items()))
        if told:
            self.reporter.note(f"last {clips} clips: {'; '.join(told)}")


class Patience:
    """Hears the metric of each evaluation and says when to give up: in the last phase, never before it."""

    def __init__(self, recipe: Recipe, last_phase_step: int) -> None:
        self.most, self.min_gain = recipe.evaluation.patience, recipe.evaluation.min_gain
        self.last_phase_step = last_phase_step
        self.best, self.waited = float("inf"), 0

    def heard(self, step: int, value: float) -> bool:
        """Whether to go on. A value counts as better when it is lower by `min_gain` at least."""
        gained = value < self.best and value <= self.best - self.min_gain
        self.waited = 0 if gained or step <= self.last_phase_step else self.waited + 1
        self.best = value if gained else self.best
        return not self.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether it has given up."""
        return self.most is not None and self.waited >= self.most


def read_metrics(run: Path, kind: str) -> list[dict[str, Any]]:
    """The rows of one kind, train or eval, of a run's metrics.jsonl; a line that was cut by a crash is left out."""
    return [row for row in read_log(run / "metrics.jsonl") if row.get("kind") == kind]


def _clip_key(clip: str, audio: str) -> tuple[str, str]:
    return clip, audio


def _listed(file: Path) -> set[tuple[str, str]]:
    """The clips in a run's dropped.jsonl; a line that was cut by a crash is left out."""
    rows = [entry["row"] for entry in read_log(file) if isinstance(entry.get("row"), dict)]
    return {_clip_key(str(row.get("id")), str(row.get("audio"))) for row in rows}


def _or_infinity(value: float | None) -> float:
    return float("inf") if value is None else value


def device_figures() -> dict[str, Any]:
    """Peak memory in MiB, the process's and the GPU's, and the GPU's utilisation in %.

    GPU fields are null without a GPU, not missing; `memory` is the GPU's by the name that readers of such logs look for.
    """
    if not torch.cuda.is_available():
        return {"memory_mb": memory_mb(), "memory": None, "gpu_memory_mb": None, "gpu_utilization": None}
    try:
        utilisation: int | None = torch.cuda.utilization()
    except Exception:  # needs NVIDIA's management library, which a driver may lack
        utilisation = None
    peak = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return {"memory_mb": memory_mb(), "memory": peak, "gpu_memory_mb": peak, "gpu_utilization": utilisation}
