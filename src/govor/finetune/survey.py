"""What a run's sources hold: read once, before any weight is loaded, so that bad data is refused in one sentence."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from govor.audio import split_blob
from govor.corpus.licenses import gate, licenses
from govor.corpus.manifests import Manifest, read_clips
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.examples.dataset import Rows
from govor.examples.features import FEATURES, Feature, rendered
from govor.examples.mixing import Chance
from govor.examples.phases import Phase
from govor.examples.settings import Examples
from govor.examples.spec import ExampleSpec
from govor.families.base import Renderer
from govor.families.task import Task
from govor.recipe import Recipe, Source
from govor.runs import Workspace


@dataclass(frozen=True, slots=True)
class SourceData:
    """One source as it will be trained on.

    `able` and `bound` are shares of its rows by example feature: those that can show it, and those that always do.
    `left_out` counts rows by the reason why they are not drawn.
    """

    name: str
    train: Rows
    validation: Manifest
    seconds: float
    able: dict[str, float]
    bound: dict[str, float]
    languages: tuple[str, ...]
    licenses: dict[str, int]
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class Survey:
    """What rows are looked at for: a family's renderer and task, and the examples that a recipe makes of them."""

    renderer: Renderer
    task: Task
    examples: Examples

    @property
    def rendered(self) -> tuple[Feature, ...]:
        """The example features that the family can show."""
        return rendered(self.renderer.features)

    def check(self, clip: Clip, path: Path) -> None:
        """Refuse a row of the manifest `path` that cannot become an example."""
        if not split_blob(clip.file)[0].is_file():
            raise GovorError(f"{path}: the audio of clip '{clip.id}' was not found at {clip.audio}.")
        lacking = self.task.refuse(clip, self.examples)
        if lacking:
            raise GovorError(f"{path}: {lacking}.")
        if clip.transcribed and not clip.transcript.strip():
            raise GovorError(f"{path}: clip '{clip.id}' has an empty transcript; run govor validate.")
        spec = ExampleSpec(clip, self.examples.language or clip.language)
        self.renderer.check(spec)
        for feature in self.rendered:
            shown = feature.bound(clip) or (feature.asked(self.examples) and feature.able(clip))
            if feature.lengthens and shown:
                self.renderer.check(feature.put(spec, 0))

    def described(self, name: str, train: Rows, validation: Manifest, left_out: Counter[str]) -> SourceData:
        """A source whose rows were checked and chosen."""
        seconds = 0.0
        able, bound = Counter[str](), Counter[str]()
        languages: set[str] = set()
        for clip in train:
            seconds += clip.duration
            languages.add(clip.language)
            for feature in self.rendered:
                able[feature.name] += feature.able(clip)
                bound[feature.name] += feature.bound(clip)
        rows = len(train)
        return SourceData(
            name,
            train,
            validation,
            seconds,
            {feature.name: able[feature.name] / rows for feature in FEATURES},
            {feature.name: bound[feature.name] / rows for feature in FEATURES},
            tuple(sorted(languages)),
            licenses(train),
            dict(left_out),
        )


def survey(workspace: Workspace, recipe: Recipe, renderer: Renderer, task: Task) -> list[SourceData]:
    """Read every row of every source.

    Raises:
        GovorError: a row that cannot become an example or that nobody may train on, a source without rows, no validation
            data at all, or an example feature that the family cannot show.
    """
    looking = Survey(renderer, task, recipe.examples)
    for feature in FEATURES:
        if feature.asked(recipe.examples) and feature not in looking.rendered and not feature.needs:
            raise GovorError(
                f"examples.{feature.asked_by(recipe.examples)} is set and the family {recipe.family} has no examples with it; leave it out."
            )
    sources = [_source(workspace, name, source, looking) for name, source in recipe.data.by_name().items()]
    if not any(len(source.validation) for source in sources):
        names = ", ".join(str(source.validation.path) for source in sources)
        raise GovorError(f"{names} holds no clips; a run needs validation data.")
    return sources


def chances(recipe: Recipe, sources: Sequence[SourceData], phase: Phase) -> dict[str, Chance]:
    """With which probability a row that can show a feature shows it in a phase, by the feature's name.

    Raises:
        GovorError: a feature is asked for and no drawn row has it.
    """
    by_feature: dict[str, Chance] = {}
    for feature in FEATURES:
        able, bound = ([part[feature.name] for part in parts] for parts in _columns(sources))
        chance = feature.chance(recipe.examples, able, bound, phase.mixture.shares)
        if chance is None:
            continue
        if chance.asked and not chance.reachable:
            raise GovorError(
                f"examples.{feature.asked_by(recipe.examples)} is {chance.asked:g} and no row drawn in phase '{phase.name}' {feature.needs}; "
                "set it to 0, or make rows that have it with govor preprocess."
            )
        by_feature[feature.name] = chance
    return by_feature


def _columns(sources: Sequence[SourceData]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    return [source.able for source in sources], [source.bound for source in sources]


def _source(workspace: Workspace, name: str, source: Source, looking: Survey) -> SourceData:
    folder = workspace.path(source.split)
    train, validation = (Manifest(folder / f"{part}.jsonl", workspace.root) for part in ("train", "validation"))
    if not len(train):
        raise GovorError(f"{train.path} holds no clips; a run needs train data.")
    gate(train, "train", str(train.path))
    for clip in read_clips(validation.path, workspace.root):
        looking.check(clip, validation.path)
    return usable_rows(name, train, validation, source, looking)


def usable_rows(name: str, train: Manifest, validation: Manifest, source: Source, looking: Survey) -> SourceData:
    """Check every row of `train` and choose those that the source's filters leave.

    Raises:
        GovorError: a row that cannot become an example, or none is left.
    """
    rows, qualities, seconds = array("q"), array("d"), array("d")
    left_out: Counter[str] = Counter()
    for number, clip in enumerate(read_clips(train.path, train.root)):
        looking.check(clip, train.path)
        reason = _left_out(source, clip)
        if reason:
            left_out[reason] += 1
            continue
        rows.append(number)
        qualities.append(clip.quality_score or 0.0)
        seconds.append(clip.duration)
    best = _best(source, np.array(rows), np.array(qualities), np.array(seconds))
    if len(best) < len(rows):
        left_out[f"beyond the best {source.best_hours:g} h"] = len(rows) - len(best)
    if not len(best):
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise GovorError(f"The source '{name}' ({train.path}) has no rows left to draw from: {reasons}.")
    return looking.described(name, Rows(train, best if len(best) < len(train) else None), validation, left_out)


def _left_out(source: Source, clip: Clip) -> str | None:
    """Why a source does not draw a row, if it does not."""
    if source.min_quality is None and source.best_hours is None:
        return None
    if clip.quality_score is None:
        return "no quality_score"
    low = source.min_quality is not None and clip.quality_score < source.min_quality
    return f"quality below {source.min_quality:g}" if low else None


def _best(
    source: Source, rows: npt.NDArray[np.int64], qualities: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """The rows of the best quality that fill `best_hours`, in the order of the manifest."""
    if source.best_hours is None or not len(rows):
        return rows
    order = np.argsort(-qualities, kind="stable")
    enough = np.cumsum(seconds[order]) <= source.best_hours * 3600
    chosen: npt.NDArray[np.int64] = np.sort(rows[order[enough]])
    return chosen


def all_languages(sources: Sequence[SourceData]) -> list[str]:
    """Languages of a run's training clips."""
    return sorted({language for data in sources for language in data.languages})


def all_licenses(sources: Sequence[SourceData]) -> Mapping[str, int]:
    """Training clips by licence."""
    counts: Counter[str] = Counter()
    for data in sources:
        counts.update(data.licenses)
    return dict(counts)
