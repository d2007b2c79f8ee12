"""Callbacks that end a run: its metric no longer gets better, or a signal came."""

from __future__ import annotations

from govor.finetune.callbacks import Callback, End, Evaluation
from govor.finetune.session import Session
from govor.metrics.metric import Metric
from govor.recipe import Evaluation as EvaluationSettings


class Patience:
    """Sees the metric of each evaluation and says when to give up: in the last phase, never before it."""

    def __init__(self, settings: EvaluationSettings, metric: Metric, last_phase_step: int) -> None:
        self.most, self.min_gain, self.metric = settings.patience, settings.min_gain, metric
        self.last_phase_step = last_phase_step
        self.best, self.waited = float("inf"), 0

    def seen(self, step: int, value: float | None) -> bool:
        """Whether to go on. A value counts as a gain when it is better by `min_gain` at least."""
        rank = self.metric.rank(value)
        gained = rank < self.best and rank <= self.best - self.min_gain
        self.waited = 0 if gained or step <= self.last_phase_step else self.waited + 1
        self.best = rank if gained else self.best
        return not self.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether it has given up."""
        return self.most is not None and self.waited >= self.most


class EarlyStopping(Callback):
    """Ends a run whose metric no longer gets better. One that had given up does not go on when it is resumed."""

    def __init__(self, session: Session) -> None:
        self._session, name = session, session.metric.name
        last_phase_step = session.trainer.phases[-1].first_step
        self.patience = Patience(session.recipe.evaluation, session.metric, last_phase_step)
        for row in session.run.metrics("eval"):
            if 0 < row["step"] <= session.done:
                self.patience.seen(int(row["step"]), row.get(name))

    def begun(self) -> End | None:
        """See `Callback.begun`."""
        return End("the run had stopped early") if self.patience.exhausted else None

    def verdict(self, evaluation: Evaluation) -> End | None:
        """See `Callback.verdict`."""
        session, name, step = self._session, self._session.metric.name, evaluation.step
        if not evaluation.measured or self.patience.seen(step, evaluation.metrics.get(name)):
            return None
        reason = f"no better validation {name} in {self.patience.most} evaluations"
        if step < session.trainer.total_steps:
            session.process.progress.note(f"stopped at step {step}: {reason}")
            session.event("early stop", step=step, patience=self.patience.most)
        return End(reason)


class Interruption(Callback):
    """Ends a run that was asked to end by a signal, in whichever process."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def verdict(self, evaluation: Evaluation) -> End | None:
        """See `Callback.verdict`."""
        asked = self._session.process.stop.asked(self._session.accelerator)
        if not evaluation.measured:
            self._session.event("interrupted", step=evaluation.step)
        return End("interrupted") if asked or not evaluation.measured else None
