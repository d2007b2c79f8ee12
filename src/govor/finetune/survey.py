"""What a run's sources hold: read once, before any weight is loaded, so that bad data is refused in one sentence."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from govor.audio import split_blob
from govor.corpus.licenses import gate, licenses
from govor.corpus.manifests import Manifest, fingerprint, read_clips
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.examples.dataset import Rows, has_previous, has_times, must_have_times
from govor.examples.mixing import Chance, chance
from govor.examples.settings import Examples
from govor.examples.spec import ExampleSpec
from govor.families.base import Renderer
from govor.files import sha256_of
from govor.finetune.phases import Stage
from govor.recipe import Recipe, Source


@dataclass(frozen=True, slots=True)
class SourceData:
    """One source as it will be trained on.

    `timed`, `bound` and `previous` are shares of its rows: with times, with times that they cannot do without, with the
    text before. `left_out` counts rows by the reason why they are not drawn.
    """

    name: str
    train: Rows
    validation: Manifest
    seconds: float
    timed: float
    bound: float
    previous: float
    languages: tuple[str, ...]
    licenses: dict[str, int]
    left_out: dict[str, int]


def fingerprints(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Path, rows and hash of each manifest of a run, by `source/part`."""
    return {
        f"{name}/{part}": fingerprint(Path(source.split) / f"{part}.jsonl")
        for name, source in recipe.data.by_name().items()
        for part in ("train", "validation")
    }


def survey(recipe: Recipe, renderer: Renderer, timed: bool) -> list[SourceData]:
    """Read every row of every source; `timed` says that the model knows time tokens.

    Raises:
        GovorError: a row that cannot become an example or that nobody may train on, a source without rows, or no
            validation data at all.
    """
    found = [_source(name, source, recipe.examples, renderer, timed) for name, source in recipe.data.by_name().items()]
    if not any(len(data.validation) for data in found):
        names = ", ".join(str(data.validation.path) for data in found)
        raise GovorError(f"{names} holds no clips; a run needs validation data.")
    return found


def augment_sha256(recipe: Recipe) -> str | None:
    """The hash of the augmentation's settings, which are as much a part of a run as its data."""
    return None if recipe.examples.augment is None else sha256_of(Path(recipe.examples.augment))


def odds(recipe: Recipe, sources: list[SourceData], stage: Stage) -> dict[str, Chance]:
    """With which probability a row that can show timestamps or previous text shows them in a stage.

    Raises:
        GovorError: a feature is asked for and no drawn row has it.
    """
    shares, asked = stage.mixture.shares, recipe.examples
    none = [0.0] * len(sources)
    found = {
        "timestamps": chance(asked.timestamps_share, [s.timed for s in sources], [s.bound for s in sources], shares),
        "previous": chance(asked.previous_share, [s.previous for s in sources], none, shares),
    }
    for name, item in found.items():
        if item.asked and not item.reachable:
            what = "has times (segments)" if name == "timestamps" else "has text before it (prev_transcript)"
            raise GovorError(
                f"examples.{name}_share is {item.asked:g} and no row drawn in phase '{stage.name}' {what}; set it to 0, or "
                "make rows that have it with govor preprocess."
            )
    return found


def _source(name: str, source: Source, examples: Examples, renderer: Renderer, timed: bool) -> SourceData:
    manifests = {part: Manifest(Path(source.split) / f"{part}.jsonl") for part in ("train", "validation")}
    train = manifests["train"]
    if not len(train):
        raise GovorError(f"{train.path} holds no clips; a run needs train data.")
    gate(train, "train", str(train.path))
    for clip in read_clips(manifests["validation"].path):
        _check(clip, manifests["validation"].path, examples, renderer, timed)
    return usable_rows(name, train, manifests["validation"], source, examples, renderer, timed)


def usable_rows(
    name: str,
    train: Manifest,
    validation: Manifest,
    source: Source,
    examples: Examples,
    renderer: Renderer,
    timed: bool,
) -> SourceData:
    """Check every row of `train` and choose those that the source's filters leave.

    Raises:
        GovorError: a row that cannot become an example, or none is left.
    """
    rows, qualities, seconds = array("q"), array("d"), array("d")
    left_out: Counter[str] = Counter()
    for number, clip in enumerate(read_clips(train.path)):
        _check(clip, train.path, examples, renderer, timed)
        if clip.quality_score is None and (source.min_quality is not None or source.best_hours is not None):
            left_out["no quality_score"] += 1
            continue
        if (
            source.min_quality is not None
            and clip.quality_score is not None
            and clip.quality_score < source.min_quality
        ):
            left_out[f"quality below {source.min_quality:g}"] += 1
            continue
        rows.append(number)
        qualities.append(clip.quality_score or 0.0)
        seconds.append(clip.duration)
    kept = _best(source, np.array(rows), np.array(qualities), np.array(seconds))
    if len(kept) < len(rows):
        left_out[f"beyond the best {source.best_hours:g} h"] = len(rows) - len(kept)
    if not len(kept):
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise GovorError(f"The source '{name}' ({train.path}) has no rows left to draw from: {reasons}.")
    chosen = Rows(train, kept if len(kept) < len(train) else None)
    return _described(name, chosen, validation, left_out, timed)


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


def _described(name: str, train: Rows, validation: Manifest, left_out: Counter[str], timed: bool) -> SourceData:
    seconds, able, bound, previous = 0.0, 0, 0, 0
    languages: set[str] = set()
    for clip in train:
        seconds += clip.duration
        able += timed and has_times(clip)
        bound += timed and must_have_times(clip)
        previous += has_previous(clip)
        languages.add(clip.language)
    rows = len(train)
    return SourceData(
        name,
        train,
        validation,
        seconds,
        able / rows,
        bound / rows,
        previous / rows,
        tuple(sorted(languages)),
        licenses(train),
        dict(left_out),
    )


def _check(clip: Clip, path: Path, examples: Examples, renderer: Renderer, timed: bool) -> None:
    if not split_blob(clip.audio)[0].is_file():
        raise GovorError(f"{path}: the audio of clip '{clip.id}' was not found at {clip.audio}.")
    if not clip.transcript.strip():
        raise GovorError(f"{path}: clip '{clip.id}' has an empty transcript; run govor validate.")
    spec = ExampleSpec(clip, examples.language or clip.language)
    renderer.check(spec)
    if timed and (must_have_times(clip) or (examples.timestamps_share and has_times(clip))):
        renderer.check(replace(spec, with_timestamps=True))


def all_languages(sources: list[SourceData]) -> list[str]:
    """Languages of a run's training clips."""
    return sorted({language for data in sources for language in data.languages})


def all_licenses(sources: list[SourceData]) -> Mapping[str, int]:
    """Training clips by licence."""
    counts: Counter[str] = Counter()
    for data in sources:
        counts.update(data.licenses)
    return dict(counts)
