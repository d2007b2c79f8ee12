"""Exported equals trained, on fixed clips, or the export fails: what the families' exporters share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.examples.dataset import load_batch
from govor.examples.spec import ExampleSpec
from govor.families.base import Family
from govor.runs import Json


def verify_reload(folder: Path, family: Family, clips: Sequence[Clip]) -> Json:
    """The family's own loader, reading `folder`, gives the trained model's logits.

    Raises:
        GovorError: they differ by more than rounding.
    """
    again = type(family).load(folder)
    worst = 0.0
    for clip in clips:
        batch = load_batch([ExampleSpec(clip, clip.language)], family.renderer)
        with torch.inference_mode():
            worst = max(worst, float((again.logits(batch) - family.logits(batch)).abs().max()))
    return within_rounding(worst, clips)


def within_rounding(worst: float, clips: Sequence[Clip]) -> Json:
    """What is kept of a proof by logits, of which `worst` is the largest difference.

    Raises:
        GovorError: it is more than rounding.
    """
    if not worst <= 1e-2:
        raise GovorError(
            f"The exported model gives other logits than the trained one (difference {worst:.2g}); nothing was packaged."
        )
    return {"clips": len(clips), "max_logit_difference": worst}
