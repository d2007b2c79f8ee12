"""What adapters are like, as a recipe says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from govor.config import Settings


class Lora(Settings):
    """Low-rank adapters instead of all weights (Hu et al. 2021)."""

    rank: int = Field(16, ge=1, le=1024, description="width of the adapters")
    alpha: int = Field(32, ge=1, description="the update is scaled by alpha / rank")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead, for large ranks")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None, description="parameter groups that get adapters (decoder, encoder.top8, …); the family's choice if unset"
    )
    quantize: Literal["none", "8bit", "4bit"] = Field("none", description="the frozen weights' format; needs a GPU")
