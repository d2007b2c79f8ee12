"""Telling tones apart as a task: macro F1 and accuracy, of both of which more is better."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from govor.audio import Samples
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import AudioError, GovorError
from govor.examples.settings import Examples
from govor.families.recogniser import clip_row
from govor.families.task import ContextMode, DecodeOptions, Measurement, Row
from govor.metrics.errors import ErrorReport, of_labels
from govor.metrics.intervals import FEWEST_CLUSTERS, Clusters, choose_clusters
from govor.metrics.metric import Metric
from govor.runs import Json
from toy_family.examples import label_of

_BLOCK = 64
_ROUNDS = 1000


@runtime_checkable
class Classifier(Protocol):
    """What the task asks of a model."""

    @property
    def label(self) -> str:
        """The label that it was taught."""
        ...

    @property
    def classes(self) -> list[str]:
        """What that label can be."""
        ...

    def classify(self, clips: Sequence[Samples]) -> list[str]:
        """The class of each clip."""
        ...


def _classifier(model: object) -> Classifier:
    if not isinstance(model, Classifier):
        raise TypeError(f"{type(model).__name__} is no Classifier")
    return model


class ToneTask:
    """The `Task` of the classifier. A row's `reference` is the clip's class, its `hypothesis` the model's."""

    name: str = "audio-classification"
    metrics: tuple[Metric, ...] = (Metric("macro_f1", "higher"), Metric("accuracy", "higher"))
    gates: tuple[Metric, ...] = (Metric("macro_f1", "higher"), Metric("macro_f1_lower", "higher"))
    contexts: tuple[ContextMode, ...] = ("speech",)
    evidence: tuple[str, ...] = ("reference", "hypothesis", "right")

    def evidence_for(self, gate: str) -> tuple[Measurement, str]:
        """Both are of clips."""
        return "scoring", gate

    def refuse(self, clip: Clip, examples: Examples | None = None) -> str | None:
        """A row needs the recipe's label, or any where no recipe is."""
        if examples is not None and label_of(examples) not in clip.labels:
            return f"clip '{clip.id}' has no label '{label_of(examples)}'"
        return None if clip.labels else f"clip '{clip.id}' has no label"

    def check_clips(self, model: object, clips: Sequence[Clip], manifest: Path, options: DecodeOptions) -> None:
        """Every clip is of a class that the model has."""
        one = _classifier(model)
        for clip in clips:
            if clip.labels.get(one.label) not in one.classes:
                said = clip.labels.get(one.label)
                raise GovorError(
                    f"{manifest}: the {one.label} of {clip.id} is '{said}', and the model has no such class."
                )

    def answers(
        self,
        model: object,
        clips: Sequence[Clip],
        options: DecodeOptions,
        on_done: Callable[[int], None] | None = None,
        on_unreadable: Callable[[Clip, AudioError], None] | None = None,
    ) -> Iterator[list[Row]]:
        """One class for each clip."""
        classifier = _classifier(model)
        for at in range(0, len(clips), _BLOCK):
            rows: list[Row] = []
            for clip in clips[at : at + _BLOCK]:
                start = time.perf_counter()
                try:
                    samples = clip_samples(clip)
                except AudioError as error:
                    if on_unreadable is None:
                        raise
                    on_unreadable(clip, error)
                    continue
                (answer,) = classifier.classify([samples])
                row = {**clip_row(clip, len(samples), clip.snr_db), "reference": clip.labels[classifier.label]}
                took = round(time.perf_counter() - start, 5)
                rows.append({**row, "hypothesis": answer, "took_seconds": took})
                if on_done:
                    on_done(1)
            yield rows

    def unanswered(self, clip: Clip, model: object = None) -> Row:
        """A class that is never right."""
        row = clip_row(clip, 0, clip.snr_db)
        return {**row, "duration": clip.duration, "reference": clip.labels[_classifier(model).label], "hypothesis": ""}

    def counted(self, rows: Sequence[Row]) -> list[Row]:
        """Whether each is right."""
        return [{**row, "right": row["reference"] == row["hypothesis"]} for row in rows]

    def sound(self, row: Row) -> bool:
        """Two classes."""
        return isinstance(row["reference"], str) and isinstance(row["hypothesis"], str)

    def current(self, summary: Row, rows: Sequence[Row] = ()) -> bool:
        """There is one way of counting."""
        return True

    def rates(self, rows: Sequence[Row]) -> dict[str, float | None]:
        """Macro F1 and accuracy."""
        if not rows:
            return {"macro_f1": None, "accuracy": None}
        right = sum(row["right"] for row in rows) / len(rows)
        return {"macro_f1": round(macro_f1(rows), 6), "accuracy": round(right, 6)}

    def summarise(self, rows: Sequence[Row]) -> Json:
        """Both with their intervals."""
        clusters = choose_clusters(rows)
        found: Json = {
            "clips": len(rows),
            "audio_seconds": round(sum(row["duration"] for row in rows), 3),
            "interval": {"unit": clusters.unit, "clusters": clusters.count, "note": clusters.note, "level": 0.95},
            "slices": {},
        }
        draws = [self.rates([rows[index] for index in draw]) for draw in _draws(clusters)]
        for name, value in self.rates(rows).items():
            found |= {name: value, f"{name}_interval": _interval([draw[name] or 0.0 for draw in draws], clusters)}
        return found

    def errors(self, row: Row) -> tuple[int, int]:
        """One answer."""
        return int(not row["right"]), 1

    def report(self, before: Sequence[Row], after: Sequence[Row]) -> ErrorReport:
        """What was taken for what."""
        return of_labels(before, after)

    def compare(self, before: Sequence[Row], after: Sequence[Row], names: tuple[str, str]) -> Json:
        """The paired bootstrap of both, and clips that got better or worse."""
        a, b = ({row["id"]: row for row in rows} for rows in (before, after))
        if a.keys() != b.keys():
            raise GovorError(f"{names[0]} and {names[1]} are of other clips; only scores of the same clips compare.")
        order = sorted(a)
        first, second = ([rows[name] for name in order] for rows in (a, b))
        clusters = choose_clusters(first)
        draws = [[self.rates([side[i] for i in draw]) for side in (first, second)] for draw in _draws(clusters)]
        found: Json = {
            "a": names[0],
            "b": names[1],
            "clips": len(order),
            "test": {
                "method": "paired bootstrap",
                "unit": clusters.unit,
                "clusters": clusters.count,
                "note": clusters.note,
            },
        }
        old, new = self.rates(first), self.rates(second)
        for metric in self.metrics:
            x, y = old[metric.name] or 0.0, new[metric.name] or 0.0
            gains = [(pair[1][metric.name] or 0.0) - (pair[0][metric.name] or 0.0) for pair in draws]
            against = min(sum(gain <= 0 for gain in gains), sum(gain >= 0 for gain in gains))
            found[metric.name] = {
                "a": x,
                "b": y,
                "difference": round(y - x, 6),
                "difference_interval": _interval(gains, clusters),
                "relative_change": round((y - x) / x, 6) if x else None,
                "p_value": min(1.0, 2 * (against + 1) / (len(gains) + 1)),
            }
        change = [int(new["right"]) - int(old["right"]) for old, new in zip(first, second, strict=True)]
        better, worse = ([n for n, c in zip(order, change, strict=True) if c == sign] for sign in (1, -1))
        found |= {"better": len(better), "worse": len(worse), "same": len(order) - len(better) - len(worse)}
        found |= {"biggest_gains": better[:5], "biggest_losses": worse[:5], "slices": {}}
        gained = found["macro_f1"]["difference"]
        found["verdict"] = "no difference shown" if not gained else f"B is {'better' if gained > 0 else 'worse'}"
        return found


def macro_f1(rows: Sequence[Row]) -> float:
    """The mean over the classes that occur of 2 TP / (2 TP + FP + FN)."""
    scores = []
    for name in sorted({row["reference"] for row in rows}):
        true = sum(row["reference"] == row["hypothesis"] == name for row in rows)
        wrong = sum((row["reference"] == name) != (row["hypothesis"] == name) for row in rows)
        scores.append(2 * true / (2 * true + wrong))
    return float(sum(scores) / len(scores))


def _draws(clusters: Clusters) -> list[list[int]]:
    """Rows of resampled sets, the same ones at every call."""
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(clusters.labels):
        groups.setdefault(label, []).append(index)
    members = list(groups.values())
    chosen = np.random.default_rng(0).integers(len(members), size=(_ROUNDS, len(members)))
    return [[index for group in draw for index in members[group]] for draw in chosen]


def _interval(values: Sequence[float], clusters: Clusters) -> list[float] | None:
    if clusters.count < FEWEST_CLUSTERS:
        return None
    return [round(float(bound), 6) for bound in np.quantile(values, [0.025, 0.975])]


TONES = ToneTask()
