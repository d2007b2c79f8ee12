"""The section `examples` of the family's recipes."""

from __future__ import annotations

from pydantic import Field

from govor.examples.settings import Examples

LABEL = "tone"


class ToneExamples(Examples):
    """Clips have no words, so nothing of an example can be about words."""

    label: str = Field(LABEL, description="the label of a row that is learned")


def label_of(examples: Examples) -> str:
    """The label that a recipe of the family names."""
    assert isinstance(examples, ToneExamples)
    return examples.label
