"""How rows become examples, as a recipe says it: the section that every family has, unless it brings one of its own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from govor.config import Settings, Share


class SpecAugment(Settings):
    """Stripes of the spectrogram hidden while training (Park et al. 2019), drawn anew at every pass."""

    share: Share = Field(0.0, description="share of examples with stripes; 0 is off")
    time_stripes: int = Field(2, ge=0, le=20, description="stripes over all bands")
    time_stripe_seconds: float = Field(0.5, gt=0, le=10, description="longest stripe; a tenth of a clip at most")
    frequency_stripes: int = Field(2, ge=0, le=20, description="stripes over the whole clip")
    frequency_stripe_bands: int = Field(20, ge=1, le=128, description="most mel bands of one")


class Contexts(Settings):
    """The share of the examples in each audio context; what is not named has none, and all add up to 1."""

    speech: Share = Field(0.0, description="share of examples that the model sees as long as they are")
    cached: Share = Field(0.0, description="share of examples with cached silence behind them")
    padded: Share = Field(0.0, description="share of examples padded to 30 s")

    @model_validator(mode="after")
    def _whole(self) -> Contexts:
        total = self.speech + self.cached + self.padded
        if abs(total - 1.0) > 1e-6:
            raise ValueError(
                f"speech {self.speech:g}, cached {self.cached:g} and padded {self.padded:g} add up to {total:g}; they must "
                "add up to 1"
            )
        return self


class Examples(Settings):
    """How a manifest row becomes a training example."""

    context: Literal["speech", "padded", "cached"] = Field(
        "speech",
        description="what the encoder sees: the clip's bucket, the full 30 s as stock training does, or the clip's bucket "
        "with cached silence behind it",
    )
    contexts: Contexts | None = Field(
        None, description="share of examples in each context; all are as `context` says if unset"
    )
    silence_steps: int = Field(20, ge=1, description="cached silence is made anew from the weights every so many steps")
    full_length_share: Share = Field(0.0, description="share of examples padded to 30 s while context is not padded")
    timestamps_share: Share = Field(
        0.0, description="share of all examples taught with times, as far as rows have them"
    )
    previous_share: Share = Field(
        0.0, description="share of all examples given the text before, as far as rows have it"
    )
    language: str | None = Field(None, description="one language token for all clips (BCS); each clip's own if unset")
    augment: str | None = Field(None, description="YAML file of augmentation (configs/augment.yaml); none by default")
    spec_augment: SpecAugment = SpecAugment()

    @model_validator(mode="after")
    def _one_way(self) -> Examples:
        if self.context == "padded" and self.full_length_share:
            raise ValueError(
                f"context is 'padded' (every example is full length) and full_length_share is {self.full_length_share}; "
                "drop one of the two"
            )
        if self.contexts is not None and self.full_length_share:
            raise ValueError(
                f"full_length_share is {self.full_length_share} and contexts says what share is padded "
                f"({self.contexts.padded:g}); drop one of the two"
            )
        return self

    @property
    def padded_share(self) -> float:
        """The share of the examples that are padded to 30 s."""
        if self.contexts is not None:
            return self.contexts.padded
        return 1.0 if self.context == "padded" else self.full_length_share

    @property
    def cached_share(self) -> float:
        """The share of the examples with cached silence behind them."""
        if self.contexts is not None:
            return self.contexts.cached
        return 1.0 - self.full_length_share if self.context == "cached" else 0.0
