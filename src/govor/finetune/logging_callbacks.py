"""Callbacks that tell of a run: its files, whoever called, trackers, a copy of its checkpoints elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from govor.corpus.manifests import rejected
from govor.errors import GovorError
from govor.examples.dataset import Unread
from govor.examples.features import FEATURES
from govor.examples.phases import Phase
from govor.finetune.callbacks import Callback, Evaluation
from govor.finetune.groups import Group, table
from govor.finetune.loop import StepRecord
from govor.finetune.prepare import about_source, shares
from govor.finetune.session import Session
from govor.finetune.stopping_callbacks import EarlyStopping, Interruption
from govor.finetune.track import Trackers
from govor.jsons import read_log
from govor.logs import JsonLines, RunLog
from govor.machine import memory_mb
from govor.runs import Json

# So many steps in a row without a clip that can be read, and so many such clips, are a disk that is gone.
_STEPS_OF_NOTHING, _CLIPS_OF_NOTHING = 3, 10


def standard_callbacks(session: Session) -> list[Callback]:
    """Those of every run; the log of the run is open from here."""
    # First of all, since one that does not start refuses the run.
    tracked = [Track(session)] if session.main and session.recipe.tracking.to else []
    log = Log(session)
    return [
        Unreadable(session),
        log,
        *tracked,
        Shares(session),
        EarlyStopping(session),
        Interruption(session),
        Upload(session),
    ]


class Log(Callback):
    """`metrics.jsonl`, `phases.json`, the run's log, and what whoever called is told."""

    def __init__(self, session: Session) -> None:
        self._session, self._run, self._main = session, session.run, session.main
        self._progress = session.process.progress
        self._halvings = session.trainer.halvings
        self._metrics: JsonLines | None = None
        again = session.done and self._run.holds("phases.json")
        self._phases: Json = dict(self._run.read("phases.json")) if again else {}
        if self._main:
            self._metrics = JsonLines(self._run.folder / "metrics.jsonl", keep_until_step=session.done)
            session.log = RunLog(session.workspace.logs, session.recipe.name, "train")
        session.event(
            "start",
            recipe=session.recipe.model_dump(mode="json"),
            precision=session.trainer.precision,
            total_steps=session.trainer.total_steps,
            resumed_after=session.done,
            data={source.name: about_source(source) for source in session.ready.sources},
        )

    def entered(self, phase: Phase, trained: Sequence[Group]) -> None:
        """See `Callback.entered`."""
        if not self._main:
            return
        rows = table(self._session.trainer.family.module, trained)
        self._phases[phase.name] = {"steps": [phase.first_step, phase.end], "schedule": phase.schedule, "groups": rows}
        self._run.write("phases.json", self._phases)
        title = f"phase {phase.name}: steps {phase.first_step + 1} to {phase.end}, {phase.schedule}"
        self._progress.table(f"{title}, {phase.warmup_steps} warm-up steps", rows)
        self._session.event("phase", step=phase.first_step, phase=phase.name, groups=rows, schedule=phase.schedule)

    def stepped(self, record: StepRecord) -> None:
        """See `Callback.stepped`."""
        self._tell_halved(record)
        if not (self._metrics and record.tokens):
            return
        values: Json = {
            "step": record.step,
            "phase": record.phase,
            "loss": record.loss,
            "lr": record.lr,
            "lr_by_group": record.rates,
            "grad_norm": record.grad_norm,
            "tokens": record.tokens,
            "micro_batches": record.micro_batches,
            "audio_seconds": round(record.audio_seconds, 3),
            "seconds": round(record.seconds, 4),
            "audio_hours_per_device_hour": round(record.audio_hours_per_device_hour, 1),
            "mfu": round(record.mfu, 4),
        }
        trainer = self._session.trainer
        if trainer.precision == "fp16":
            values["loss_scale"] = trainer.loss_scale
        self._metrics.write(kind="train", **values)
        self._session.event("step", **values, **device_figures())
        self._progress.step(record, trainer.total_steps)

    def _tell_halved(self, record: StepRecord) -> None:
        for halvings in range(self._halvings + 1, record.halvings + 1):
            self._progress.note(
                f"step {record.step}: out of memory; micro-batches are halved ({2**halvings} parts now), clips_per_step "
                "stays. PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True often leaves more room."
            )
            self._session.event("out of memory", step=record.step, halvings=halvings)
        self._halvings = record.halvings

    def evaluated(self, evaluation: Evaluation) -> None:
        """See `Callback.evaluated`."""
        if self._metrics and evaluation.measured:
            self._metrics.write(kind="eval", step=evaluation.step, **evaluation.metrics)
            if evaluation.errors:
                self._metrics.write(kind="clips", step=evaluation.step, errors=evaluation.errors)
            self._session.event("evaluation", step=evaluation.step, **evaluation.metrics, **device_figures())
            self._progress.evaluated(evaluation.step, evaluation.metrics)

    def saved(self, step: int, checkpoint: Path, best: Path) -> None:
        """See `Callback.saved`."""
        self._session.event("checkpoint", step=step, checkpoint=checkpoint.name, best=best.name)

    def concluded(self, best: Path, metrics: Json) -> None:
        """See `Callback.concluded`."""
        self._session.event("end", **metrics)

    def close(self) -> None:
        """See `Callback.close`."""
        for file in (self._metrics, self._session.log):
            if file:
                file.close()


class Unreadable(Callback):
    """Clips that could not be read, once each, in `dropped.jsonl`; several processes put theirs together at evaluations."""

    def __init__(self, session: Session) -> None:
        self._session, self._file = session, session.run.folder / "dropped.jsonl"
        self._waiting: list[Unread] = []
        self._in_a_row: list[Unread] = []
        self._empty_steps = 0
        if session.done:
            session.unreadable |= _listed(self._file)
        elif session.main:
            self._file.unlink(missing_ok=True)

    def stepped(self, record: StepRecord) -> None:
        """Also ends the run where nothing can be read any more.

        Raises:
            GovorError: none of the clips of several steps can be read.
        """
        self._waiting += record.unread
        if self._session.accelerator.num_processes == 1:
            self._list(record.step)
        if record.tokens:
            self._in_a_row, self._empty_steps = [], 0
            return
        self._in_a_row, self._empty_steps = [*self._in_a_row, *record.unread], self._empty_steps + 1
        if self._empty_steps < _STEPS_OF_NOTHING:
            return
        if self._session.trainer.sum(float(len(self._in_a_row))) >= _CLIPS_OF_NOTHING:
            last = self._in_a_row[-1].message.rstrip(".") if self._in_a_row else ""
            raise GovorError(
                f"None of the clips of the last {self._empty_steps} steps can be read"
                + (f" (the last: {last})" if last else "")
                + "; mend that and go on with --resume. The last checkpoint is whole."
            )

    def evaluated(self, evaluation: Evaluation) -> None:
        """See `Callback.evaluated`."""
        self._list(evaluation.step)

    def _list(self, step: int) -> None:
        session, validation = self._session, self._session.validation
        unread = [*self._waiting, *validation.unread]
        self._waiting, validation.unread = [], []
        if session.accelerator.num_processes > 1:
            unread = gather_object(unread)
        for item in unread:
            if (item.clip.id, item.clip.audio) in session.unreadable:
                continue
            session.unreadable.add((item.clip.id, item.clip.audio))
            if session.main:
                session.process.progress.note(f"warning: step {step}: {item.message.rstrip('.')}; the clip is left out")
                with closing(JsonLines(self._file)) as lines:
                    lines.write(**rejected(item.clip.to_row(), item.rule, None, None, item.message))
                session.event("unread", step=step, clip=item.clip.id, rule=item.rule)


class Track(Callback):
    """The experiment trackers that the recipe asks for; in the main process alone."""

    def __init__(self, session: Session) -> None:
        recipe = session.recipe
        self._trackers = Trackers(
            recipe.tracking.to,
            recipe.tracking.project,
            recipe.name,
            session.run.folder / "tracking",
            recipe.model_dump(mode="json"),
            session.process.progress.note,
            session.done,
        )

    def entered(self, phase: Phase, trained: Sequence[Group]) -> None:
        """See `Callback.entered`."""
        self._trackers.note(phase.first_step, f"phase {phase.name}")

    def stepped(self, record: StepRecord) -> None:
        """See `Callback.stepped`."""
        if record.tokens:
            values: dict[str, float | int | None] = {
                "train/loss": record.loss,
                "train/grad_norm": record.grad_norm,
                "train/audio_seconds": round(record.audio_seconds, 3),
                "train/seconds": round(record.seconds, 4),
                **{f"lr/{name}": rate for name, rate in record.rates.items()},
                **{f"device/{name}": value for name, value in device_figures().items()},
            }
            self._trackers.log(record.step, values)

    def evaluated(self, evaluation: Evaluation) -> None:
        """See `Callback.evaluated`."""
        self._trackers.log(evaluation.step, {f"validation/{name}": value for name, value in evaluation.metrics.items()})

    def saved(self, step: int, checkpoint: Path, best: Path) -> None:
        """See `Callback.saved`."""
        self._trackers.note(step, f"checkpoint {checkpoint.name}, best {best.name}")

    def close(self) -> None:
        """See `Callback.close`."""
        self._trackers.close()


class Shares(Callback):
    """How many of the drawn examples showed each feature, and came from each source, beside what was asked for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sources = [source.name for source in session.ready.sources]
        self._phase: Phase | None = None
        self._drawn: Counter[str] = Counter()

    def entered(self, phase: Phase, trained: Sequence[Group]) -> None:
        """See `Callback.entered`."""
        self._tell()
        self._phase = phase

    def stepped(self, record: StepRecord) -> None:
        """See `Callback.stepped`."""
        self._drawn.update(record.drawn)

    def evaluated(self, evaluation: Evaluation) -> None:
        """See `Callback.evaluated`."""
        if evaluation.measured and evaluation.step:
            self._tell()

    def _tell(self) -> None:
        """What has been drawn since the last time."""
        drawn, self._drawn = self._drawn, Counter()
        clips = drawn["clips"]
        if not (clips and self._session.main and self._phase):
            return
        watched = [feature.name for feature in FEATURES if feature.watched]
        realised = {name: round(drawn[name] / clips, 4) for name in watched}
        sources = {name: round(drawn[f"source {index}"] / clips, 4) for index, name in enumerate(self._sources)}
        wanted = shares(self._phase)
        self._session.event("shares", phase=self._phase.name, clips=clips, realised=realised, sources=sources, **wanted)
        asked, reachable = wanted["asked"], wanted["reachable"]
        lines = [
            f"{name} {realised[name]:.1%} (asked {asked[name]:.0%}, reachable {reachable[name]:.1%})"
            for name in watched
            if asked[name] or realised[name]
        ]
        if len(sources) > 1:
            lines.append("sources " + ", ".join(f"{name} {share:.1%}" for name, share in sources.items()))
        if lines:
            self._session.process.progress.note(f"last {clips} clips: {'; '.join(lines)}")


class Upload(Callback):
    """A copy of each checkpoint where the recipe wants one."""

    def __init__(self, session: Session) -> None:
        self._uploader = session.uploader

    def saved(self, step: int, checkpoint: Path, best: Path) -> None:
        """See `Callback.saved`."""
        if self._uploader:
            self._uploader.upload(checkpoint)

    def concluded(self, best: Path, metrics: Json) -> None:
        """The mean of checkpoints, where it ships."""
        if self._uploader and best.name.startswith("average"):
            self._uploader.upload(best)

    def close(self) -> None:
        """Wait for what is under way; the other processes need not, since they have ended by then."""
        if self._uploader:
            self._uploader.close()


def _listed(file: Path) -> set[tuple[str, str]]:
    """The clips in a run's dropped.jsonl; a line that was cut by a crash is left out."""
    rows = [entry["row"] for entry in read_log(file) if isinstance(entry.get("row"), dict)]
    return {(str(row.get("id")), str(row.get("audio"))) for row in rows}


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
