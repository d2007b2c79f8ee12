"""What ships: weights, processor, record and model card, proven to be what was trained."""

from __future__ import annotations

from typing import Literal

Format = Literal["hf", "ct2", "thinker"]
FORMATS: tuple[Format, ...] = ("hf", "ct2", "thinker")
