"""How good a model is on held-out clips while it trains: loss and error rates, by source and by language."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError, nearest
from govor.examples.batching import pack
from govor.examples.dataset import Unread, convert, load_batch
from govor.examples.spec import ExampleSpec
from govor.families.base import Family
from govor.families.task import DecodeOptions, Row, Task
from govor.finetune.checkpoints import Metrics
from govor.finetune.survey import SourceData
from govor.languages import language_key
from govor.metrics.metric import LOSS, Metric
from govor.recipe import Recipe

Item = TypeVar("Item")
_BUDGET_SECONDS = 120.0  # of context at once; without gradients a device holds more than while training


def metric_named(name: str, task: Task) -> Metric:
    """The metric that a recipe ranks checkpoints by.

    Raises:
        GovorError: it is none of the task's.
    """
    known = {metric.name: metric for metric in (LOSS, *task.metrics)}
    if name not in known:
        raise GovorError(f"evaluation.metric is '{name}', which {task.name} does not have; {nearest(name, known)}")
    return known[name]


class Validation:
    """The same clips of every source at each evaluation.

    The loss and the metrics of the family's task (`wer` and `cer` of a recogniser) are over all of them; where a run has
    several sources, `wer.knesset` and so on are over one, and `wer.lang-he` over one language where languages do not go
    with sources. Clips that cannot be read are left out of
    the figures and put into `unread`. `errors` are those of each clip at the last evaluation, and what they are of.

    The search is plain: an evaluation is to be fast, and the same all through a run.
    """

    def __init__(self, recipe: Recipe, sources: Sequence[SourceData], accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.unread: list[Unread] = []
        self.errors: dict[str, tuple[int, int]] = {}
        self.options = DecodeOptions(context=recipe.examples.context, language=recipe.examples.language)
        wanted = recipe.evaluation
        # Two sources may draw from one split; its held-out clips count once.
        distinct = list({data.validation.path: data for data in reversed(sources)}.values())[::-1]
        self.loss_clips = [pair for data in distinct for pair in _spread(data, wanted.loss_clips)]
        self.decode_clips = [pair for data in distinct for pair in _spread(data, wanted.decode_clips)]

    def measure(self, family: Family, autocast: AbstractContextManager[Any], decode: bool = True) -> Metrics:
        """Metrics by name; None where nothing was counted."""
        family.module.eval()
        with autocast:
            metrics = self._losses(family)
            rates = self._rates(family) if decode else _unmeasured(family.task)
        return {**metrics, **rates}

    def _mine(self, clips: Sequence[Item]) -> list[Item]:
        return list(clips[self.accelerator.process_index :: self.accelerator.num_processes])

    @torch.no_grad()
    def _losses(self, family: Family) -> Metrics:
        groups = sorted({labels for labels, _ in self.loss_clips})
        mine = self._mine(self.loss_clips)
        sums = [self._loss(family, [clip for labels, clip in mine if labels == group]) for group in groups]
        totals = self.accelerator.reduce(torch.stack(sums), "sum").tolist()

        def mean(label: Label) -> float | None:
            covered = [pair for group, pair in zip(groups, totals, strict=True) if label.covers(group)]
            loss, weight = (sum(column) for column in zip(*covered, strict=True))
            return round(loss / weight, 6) if weight else None

        return {label.of(LOSS.name): mean(label) for label in _labels(groups)}

    def _loss(self, family: Family, clips: Sequence[Clip]) -> torch.Tensor:
        """Loss sum and weight."""
        renderer, language = family.renderer, self.options.language
        context = self.options.context
        specs = [
            ExampleSpec(clip, language or clip.language, full_length=context == "padded", cached=context == "cached")
            for clip in clips
        ]
        sums = torch.zeros(2, device=self.accelerator.device)
        for batch in pack([(spec, renderer.cost_frames(spec)) for spec in specs], _BUDGET_SECONDS) if specs else []:
            read = load_batch(batch.specs, renderer, unread=self.unread)
            if not read:
                continue
            loaded = convert(read, lambda tensor: tensor.to(self.accelerator.device))
            loss, weight = family.loss(loaded)
            sums += torch.stack([loss.float(), weight.float()])
        return sums

    def _rates(self, family: Family) -> Metrics:
        task = family.task
        if not self.decode_clips:
            return _unmeasured(task)
        mine = self._mine(self.decode_clips)
        clips = [clip for _, clip in mine]
        missed: set[int] = set()

        def leave_out(clip: Clip, error: AudioError) -> None:
            missed.add(next(number for number, other in enumerate(clips) if other is clip))
            self.unread.append(Unread(clip, error.rule, str(error)))

        blocks = task.answers(family, clips, self.options, on_unreadable=leave_out)
        rows = task.counted([row for block in blocks for row in block])
        answered = [labels for number, (labels, _) in enumerate(mine) if number not in missed]
        counted: list[tuple[Labels, Row]] = list(zip(answered, rows, strict=True))
        if self.accelerator.num_processes > 1:
            counted = gather_object(counted)
        self.errors = {row["id"]: task.errors(row) for _, row in counted}
        metrics: Metrics = {}
        for label in _labels([labels for labels, _ in self.decode_clips]):
            rates = task.rates([row for labels, row in counted if label.covers(labels)])
            metrics |= {label.of(name): rate for name, rate in rates.items()}
        return metrics


def _unmeasured(task: Task) -> Metrics:
    return {metric.name: None for metric in task.metrics}


Labels = tuple[str, str]  # source and language


@dataclass(frozen=True, slots=True)
class Label:
    """What a figure is over: everything (column None), one source (0) or one language (1)."""

    column: int | None
    value: str = ""

    def covers(self, labels: Labels) -> bool:
        """Whether a clip of this source and language counts."""
        return self.column is None or labels[self.column] == self.value

    def of(self, metric: str) -> str:
        """The figure's name."""
        return {None: metric, 0: f"{metric}.{self.value}", 1: f"{metric}.lang-{self.value}"}[self.column]


def _labels(groups: Sequence[Labels]) -> list[Label]:
    """Everything; each source where there are several; each language where there are several and not one a source."""
    sources, languages = ({group[column] for group in groups} for column in (0, 1))
    labels = [Label(None)]
    if len(sources) > 1:
        labels += [Label(0, name) for name in sorted(sources)]
    if len(languages) > 1 and not len(set(groups)) == len(sources) == len(languages):
        labels += [Label(1, name) for name in sorted(languages)]
    return labels


def _spread(data: SourceData, count: int) -> list[tuple[Labels, Clip]]:
    """`count` clips spread evenly over a source's validation data: the same ones each time."""
    manifest = data.validation
    rows = len(manifest)
    chosen = [manifest[index * rows // min(count, rows)] for index in range(min(count, rows))]
    return [((data.name, language_key(clip.language)), clip) for clip in chosen]
