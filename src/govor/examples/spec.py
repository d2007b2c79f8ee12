"""What one training example shall be."""

from __future__ import annotations

from dataclasses import dataclass

from govor.corpus.records import Clip


@dataclass(frozen=True, slots=True)
class ExampleSpec:
    """Everything decided about an example before a family renders it.

    Attributes:
        clip: the manifest row.
        language: the language token to write, which a run's policy may choose over the clip's own.
        full_length: give the model its full window although the clip is shorter.
        cached: let cached silence stand behind the clip.
        with_timestamps: teach the times of `clip.segments`.
        with_previous: give `clip.prev_transcript` as context.
        recorded: the clip as it was recorded, where augmentation makes `clip` another length.
        augment_draw: which draw of the augmentation; None leaves the recording as it is.
        mask_draw: which draw of SpecAugment's stripes; None hides nothing.
    """

    clip: Clip
    language: str
    full_length: bool = False
    cached: bool = False
    with_timestamps: bool = False
    with_previous: bool = False
    recorded: Clip | None = None
    augment_draw: int | None = None
    mask_draw: int | None = None
