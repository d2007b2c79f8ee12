"""Augmented copies of clips as files of their own, for `govor augment`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from govor.audio import SAMPLE_RATE
from govor.corpus.manifests import rejected
from govor.corpus.preprocess import safe_name, to_pcm16, write_pcm16
from govor.corpus.records import Clip
from govor.corpus.samples import WINDOW_SECONDS, clip_samples
from govor.errors import AudioError
from govor.examples.augment import Augmenter, augmented_clip
from govor.runs import Workspace


def write_copy(
    work: tuple[Clip, int], augmenter: Augmenter, folder: Path
) -> tuple[Clip, list[str], dict[str, Any] | None]:
    """One draw of one clip as a file below `folder`: its row, what was done, or why it could not be."""
    clip, draw = work
    try:
        samples, done, factor = augmenter(clip_samples(clip), clip.id, draw)
    except AudioError as error:
        return clip, [], rejected(clip.to_row(), error.rule, message=str(error))
    seconds = len(samples) / SAMPLE_RATE
    if seconds > WINDOW_SECONDS >= clip.duration:
        message = "slower than it was said it is longer than a window"
        return clip, [], rejected(clip.to_row(), "too_long", round(seconds, 3), WINDOW_SECONDS, message)
    name = f"{clip.id}~{draw}"
    path = folder / f"{safe_name(name)}.wav"
    write_pcm16(path, to_pcm16(samples))
    made = augmented_clip(clip, factor, seconds)
    extra = {**clip.extra, "augmented": done, "augmented_from": clip.id}
    # What was one sound stays one group: no copy may be in training while its original is held out.
    group = clip.near_duplicate_group or clip.id
    audio = Workspace(clip.root).relative(path)
    return made.replace(id=name, audio=audio, extra=extra, near_duplicate_group=group), done, None
