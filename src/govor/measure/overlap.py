"""Was a test set in the training data? Counted by audio, near-duplicate and sentence, before any score is believed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from govor import engine
from govor.corpus.fingerprint import Fingerprint, Index
from govor.corpus.fingerprint import fingerprint as sound_print
from govor.corpus.manifests import read_clips
from govor.corpus.records import Clip, sentence_key
from govor.corpus.samples import clip_samples
from govor.corpus.validate import pcm_sha256
from govor.errors import AudioError
from govor.runs import Json, Run, Workspace

# Comparing sounds means decoding all training audio: about 1,000 times real time of one core.
MOST_HOURS_HEARD = 50.0
_SHOWN = 20
KINDS = ("audio", "near_duplicate", "sentence")


@dataclass(frozen=True, slots=True)
class Sound:
    """What a clip sounds like; nothing where it could not be read."""

    pcm: str | None
    print: Fingerprint | None


def training_manifests(workspace: Workspace, model: str) -> list[Path]:
    """The training and validation manifests that a model's record names; none where it has no record."""
    run = Run.holding(workspace.path(model), workspace)
    if run is None or not run.finished:
        return []
    parts = run.record().data
    return [workspace.path(entry["path"]) for name, entry in parts.items() if not name.endswith("/test")]


def overlap(
    workspace: Workspace,
    test: Sequence[Clip],
    training: Sequence[Path],
    hear: bool | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> Json:
    """How many test clips stand in the training manifests, by kind; a clip counts once of each kind.

    Args:
        hear: decode the training audio to compare sounds; by default where it is at most 50 hours. Otherwise audio is
            compared by the hashes in the rows, and near-duplicates are not looked for.
    """
    missing = [workspace.as_given(path) for path in training if not path.exists()]
    present = [path for path in training if path.exists()]
    hours = sum(clip.duration for path in present for clip in read_clips(path, workspace.root)) / 3600
    hear = hours <= MOST_HOURS_HEARD if hear is None else hear
    trained = (clip for path in present for clip in read_clips(path, workspace.root))
    matches = _matches(test, trained, hear, on_done)
    ids = set().union(*matches.values())
    return {
        "test_clips": len(test),
        "training_manifests": [workspace.as_given(path) for path in present],
        "training_manifests_missing": missing,
        "training_hours": round(hours, 2),
        "heard": hear,
        **{kind: len(pairs) for kind, pairs in matches.items()},
        "clips": len(ids),
        "examples": {
            kind: [{"test": test_id, "training": other} for test_id, other in list(pairs.items())[:_SHOWN]]
            for kind, pairs in matches.items()
        },
        "ids": sorted(ids),
    }


def _matches(
    test: Sequence[Clip], training: Iterator[Clip], hear: bool, on_done: Callable[[int], None]
) -> dict[str, dict[str, str]]:
    """By kind: the test clips that stand in the training data, each with a training clip that it is like."""
    matches: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    sentences: dict[str, list[str]] = {}
    sounds: dict[str, list[str]] = {}
    numbered: list[str] = []
    with Index() as prints:
        for clip, sound in _with_sounds(test, True):
            # Clips in which nothing is written are no sentence in common.
            if any(letter.isalnum() for letter in clip.transcript):
                sentences.setdefault(sentence_key(clip.transcript), []).append(clip.id)
            for key in _hashes(clip, sound):
                sounds.setdefault(key, []).append(clip.id)
            if hear and sound.print is not None:
                prints.add(sound.print)
                numbered.append(clip.id)
        of_test = len(numbered)
        for clip, sound in _with_sounds(training, hear):
            on_done(1)
            for name in sentences.get(sentence_key(clip.transcript), ()):
                matches["sentence"].setdefault(name, clip.id)
            for key in _hashes(clip, sound):
                for name in sounds.get(key, ()):
                    matches["audio"].setdefault(name, clip.id)
            if hear and sound.print is not None:
                prints.add(sound.print)
                numbered.append(clip.id)
        for match in prints.matches() if hear else ():
            first, second = sorted((match.first, match.second))
            if first < of_test <= second:
                matches["near_duplicate"].setdefault(numbered[first], numbered[second])
    return matches


def overlap_line(name: str, result: Json) -> str:
    """The result in words."""
    if not result["training_manifests"]:
        return f"{name}: no training manifest of this model is known, so overlap with its training was not checked"
    counts = ", ".join(
        f"{result[kind]} by {kind.replace('_', '-')}" for kind in KINDS if result["heard"] or kind != "near_duplicate"
    )
    much = "no overlap with" if not result["clips"] else f"{result['clips']} of {result['test_clips']} clips stand in"
    how = "" if result["heard"] else "; sounds were not compared, the training audio is long (--hear-training does)"
    lost = "" if not result["training_manifests_missing"] else "; some training manifests are gone"
    return f"{name}: {much} the training data ({counts}{how}{lost})"


def _hashes(clip: Clip, sound: Sound) -> Iterator[str]:
    yield f"path {os.path.abspath(clip.file)} {clip.offset}"  # noqa: PTH100  (links stay)
    if clip.offset is None and clip.sha256:
        yield f"file {clip.sha256}"
    pcm = sound.pcm or clip.pcm_sha256
    if pcm:
        yield f"pcm {pcm}"


def _with_sounds(clips: Sequence[Clip] | Iterator[Clip], listen: bool) -> Iterator[tuple[Clip, Sound]]:
    if not listen:
        for clip in clips:
            yield clip, Sound(None, None)
        return
    yield from engine.map(clips, partial(_listen), "processes")


def _listen(clip: Clip) -> tuple[Clip, Sound]:
    try:
        samples = clip_samples(clip)
    except AudioError:
        return clip, Sound(None, None)
    return clip, Sound(pcm_sha256(samples), sound_print(samples))
