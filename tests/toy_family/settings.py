"""What is known of the family without loading it."""

from __future__ import annotations

from pydantic import Field

from govor.config import Share
from govor.examples.settings import Examples
from govor.families.settings import FamilySettings, Gates
from toy_family.examples import ToneExamples
from toy_family.task import TONES


class ToneGates(Gates):
    """What a classifier must reach."""

    macro_f1: Share | None = Field(None, description="lowest macro F1")
    macro_f1_lower: Share | None = Field(None, description="lowest lower bound of its 95 % interval")


def check_examples(examples: Examples) -> None:
    """Neither times nor a text before."""
    if examples.timestamps_share or examples.previous_share:
        raise ValueError("a tone has neither times nor a text before; leave both shares out")


SETTINGS = FamilySettings(
    task=TONES,
    gates=ToneGates,
    formats=("safetensors",),
    examples=ToneExamples,
    check_examples=check_examples,
)
