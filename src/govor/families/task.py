"""What a family is for: which rows it can use, what its answers are, and the figures that it is judged by.

Nothing here needs torch: scorings are read, compared and judged without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from govor.corpus.records import Clip
from govor.errors import AudioError
from govor.examples.settings import Examples
from govor.metrics.errors import ErrorReport
from govor.metrics.metric import Metric
from govor.runs import Json

ContextMode = Literal["speech", "padded", "cached"]
# What measures a model: of clips, of splices of clips, of sounds without speech.
Measurement = Literal["scoring", "timestamps", "hallucination"]
# One clip of a scoring.
Row = Json


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How a model is to answer.

    `context` is what it sees of a clip; `beam_size` 1 is greedy; above `temperature` 0 tokens are drawn rather than searched
    for, the same ones at every call; `language` is told for every clip in place of the clip's own; `served` draws again what
    loops or is unsure, as engines do (`families/fallback.py`).
    """

    context: ContextMode = "speech"
    beam_size: int = 1
    temperature: float = 0.0
    language: str | None = None
    served: bool = False


class Task(Protocol):
    """What a family is trained and judged for. It knows rows of clips and figures, no weights.

    A `model` is one of the task's families or engines; a task says in a Protocol what it asks of one (recognition in
    `Recogniser`), and raises TypeError where that is not so.

    `name` is the Hub's ("automatic-speech-recognition"); `metrics` are what validation and scorings give beside the loss, the
    headline first; `gates` are what `govor accept` can ask, by name of the setting; `contexts` are the audio contexts that a
    scoring can have; `evidence` are the keys of a row that make it a scoring of this task.
    """

    name: str
    metrics: tuple[Metric, ...]
    gates: tuple[Metric, ...]
    contexts: tuple[ContextMode, ...]
    evidence: tuple[str, ...]

    def evidence_for(self, gate: str) -> tuple[Measurement, str]:
        """Which measurement a gate is judged by, and the figure's name there; of a bound, `METRIC_lower` or `METRIC_upper`."""
        ...

    def refuse(self, clip: Clip, examples: Examples | None = None) -> str | None:
        """What a row lacks for this task, in one sentence; None where it can be used.

        Args:
            examples: how a recipe makes examples, in the family's own section; None where a model is scored, which knows
                what it was taught (`check_clips`).
        """
        ...

    def check_clips(self, model: object, clips: Sequence[Clip], manifest: Path, options: DecodeOptions) -> None:
        """Refuse clips that a model does not take, before any is answered.

        Raises:
            GovorError: with the first of them.
        """
        ...

    def answers(
        self,
        model: object,
        clips: Sequence[Clip],
        options: DecodeOptions,
        on_done: Callable[[int], None] | None = None,
        on_unreadable: Callable[[Clip, AudioError], None] | None = None,
    ) -> Iterator[list[Row]]:
        """One row per clip with what the model answered, uncounted, a block of clips at a time.

        Args:
            on_unreadable: hears of clips that cannot be read, which are left out; without it they are refused.
        """
        ...

    def unanswered(self, clip: Clip, model: object = None) -> Row:
        """The row of a clip that got no answer of `model`, where it is opened here."""
        ...

    def counted(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with what their figures are made of."""
        ...

    def sound(self, row: Row) -> bool:
        """Whether the evidence in a row of a scoring is of the right kind."""
        ...

    def current(self, summary: Row, rows: Sequence[Row] = ()) -> bool:
        """Whether a scoring was counted as today; one that was not is counted anew when it is read."""
        ...

    def rates(self, rows: Sequence[Row]) -> dict[str, float | None]:
        """Every metric over counted rows; None where nothing was counted."""
        ...

    def summarise(self, rows: Sequence[Row]) -> Json:
        """Every metric with its interval (`NAME`, `NAME_interval`), and what else a scoring says of counted rows."""
        ...

    def errors(self, row: Row) -> tuple[int, int]:
        """How much of a counted row is wrong, and how much could be: words, or the one answer."""
        ...

    def report(self, before: Sequence[Row], after: Sequence[Row]) -> ErrorReport:
        """What the report's page shows of counted rows of the same clips in one order."""
        ...

    def compare(self, before: Sequence[Row], after: Sequence[Row], names: tuple[str, str]) -> Json:
        """Two scorings of the same clips, by metric: difference, interval, p-value."""
        ...
