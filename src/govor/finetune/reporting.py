"""What a run tells whoever called it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from govor.finetune.checkpoints import Metrics
from govor.finetune.loop import StepRecord
from govor.progress import Bar, Progress, Silent, TableRow


class RunProgress(Progress, Protocol):
    """A progress that also follows the steps and evaluations of a run."""

    def step(self, record: StepRecord, total_steps: int) -> None:
        """A step is done."""
        ...

    def evaluated(self, step: int, metrics: Metrics) -> None:
        """An evaluation is done."""
        ...


class SilentRun(Silent):
    """One that nobody watches."""

    def step(self, record: StepRecord, total_steps: int) -> None:
        """Nothing."""

    def evaluated(self, step: int, metrics: Metrics) -> None:
        """Nothing."""


SILENT_RUN = SilentRun()


@contextmanager
def shown_in(progress: Progress, title: str) -> Iterator[RunProgress]:
    """A run's steps and evaluations on a bar of any progress while the block runs; lines stand above the bar."""
    with progress.bar(title, None) as bar:
        yield _OnBar(progress, bar)


class _OnBar:
    def __init__(self, progress: Progress, bar: Bar) -> None:
        self._progress, self._bar = progress, bar

    def note(self, text: str) -> None:
        self._bar.note(text)

    def table(self, title: str, rows: Sequence[TableRow]) -> None:
        self._progress.table(title, rows)

    def bar(self, title: str, total: int | None) -> AbstractContextManager[Bar]:
        return self._progress.bar(title, total)

    def step(self, record: StepRecord, total_steps: int) -> None:
        speed = f"{record.audio_hours_per_device_hour:.0f} h/h  MFU {record.mfu:.0%}"
        self._bar.to(record.step, total_steps, f"loss {record.loss:.3f}  lr {record.lr:.1e}  {speed}")

    def evaluated(self, step: int, metrics: Metrics) -> None:
        self._bar.note(f"step {step}: {metrics_line(metrics)}")


def metrics_line(metrics: Metrics) -> str:
    """`validation loss 0.51 (knesset 0.48, recital 0.60)  validation wer …`."""
    shown = []
    for name in (name for name in metrics if "." not in name):
        if metrics[name] is None:
            shown.append(f"validation {name} not measured")
            continue
        parts = [
            f"{key.partition('.')[2]} {value:.4f}"
            for key, value in metrics.items()
            if key.startswith(f"{name}.") and value is not None
        ]
        shown.append(f"validation {name} {metrics[name]:.4f}" + (f" ({', '.join(parts)})" if parts else ""))
    return "  ".join(shown)
