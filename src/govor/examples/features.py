"""What an example can have besides a clip and its words: each feature is spelled here, and nowhere else.

Surveys, plans, loading, logs and `govor examples` walk this list; a family renders those that its renderer names. A new
feature is a class and a place in `FEATURES`, and a renderer that can show it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from govor.audio import Samples
from govor.corpus.records import Clip
from govor.corpus.samples import WINDOW_SECONDS
from govor.examples.augment import Augmenter, augmented_clip
from govor.examples.mixing import Chance, chance, uniform
from govor.examples.settings import Examples
from govor.examples.settings import SpecAugment as SpecAugmentSettings
from govor.examples.spec import ExampleSpec
from govor.examples.spec_augment import hide


@dataclass(frozen=True)
class Feature(ABC):
    """One feature. What a subclass does not say is so for every row: it can have the feature, and need not.

    Attributes:
        name: in logs and records, in `Renderer.features`, and in the seed of its draws.
        shown: for people.
        setting: what asks for it, below `examples` in a recipe; where there are several, see `asked_by`.
        needs: what a row must have for it, in words; empty where every row can show it.
        recorded: under which key a run's record keeps the share of a source's rows that can show it.
        loaded: whether it is put on while examples are loaded, whatever the family; the others a renderer must name.
        watched: whether the realised share is told while a run trains.
        lengthens: whether an example may become too long by it.
    """

    name: ClassVar[str]
    shown: ClassVar[str]
    setting: ClassVar[str]
    needs: ClassVar[str] = ""
    recorded: ClassVar[str] = ""
    loaded: ClassVar[bool] = False
    watched: ClassVar[bool] = True
    lengthens: ClassVar[bool] = False

    @abstractmethod
    def share(self, examples: Examples) -> float | None:
        """What share of all examples is asked for; None where it is not a matter of shares."""

    def asked(self, examples: Examples) -> bool:
        """Whether a recipe wants it at all."""
        return bool(self.share(examples))

    def asked_by(self, examples: Examples) -> str:
        """The setting by which a recipe asks for it."""
        return self.setting

    def able(self, clip: Clip) -> bool:
        """Whether a row can show it."""
        return True

    def bound(self, clip: Clip) -> bool:
        """Whether a row makes no sense without it."""
        return False

    def chance(
        self, examples: Examples, able: Sequence[float], bound: Sequence[float], shares: Sequence[float]
    ) -> Chance | None:
        """What share of the examples can have it, and with which probability a row that is free to choose gets it.

        Args:
            able: share of each source's rows that can show it.
            bound: share of each source's rows that always do.
            shares: share of the draws that each source gets.
        """
        share = self.share(examples)
        if share is None or self.needs:
            return None if share is None else chance(share, able, bound, shares)
        return Chance(share, share, share)

    @abstractmethod
    def present(self, spec: ExampleSpec) -> bool:
        """Whether an example has it."""

    @abstractmethod
    def put(self, spec: ExampleSpec, draw: int) -> ExampleSpec:
        """An example with it; `draw` is the number of the draw, which every random choice belongs to."""

    def drawn(self, spec: ExampleSpec, seed: int, draw: int, probability: float) -> ExampleSpec:
        """An example with it or without, as its draw falls; its random choice has a seed of its own."""
        clip = spec.recorded or spec.clip
        free = probability > 0 and self.able(clip) and uniform(seed, self.name, draw) < probability
        return self.put(spec, draw) if free or self.bound(clip) else spec

    def on_samples(self, samples: Samples, spec: ExampleSpec) -> Samples:
        """Samples [n] as an example has them."""
        return samples

    def on_example(self, example: Any, spec: ExampleSpec) -> Any:
        """A rendered example as it is taught."""
        return example


class Timestamps(Feature):
    """The times of segments are taught."""

    name = "timestamps"
    shown = "timestamps"
    setting = "timestamps_share"
    needs = "has times (segments)"
    recorded = "with_times"
    lengthens = True

    def share(self, examples: Examples) -> float:
        """See `Feature.share`."""
        return examples.timestamps_share

    def able(self, clip: Clip) -> bool:
        """See `Feature.able`."""
        return bool(clip.segments)

    def bound(self, clip: Clip) -> bool:
        """The slice was cut before the words of its last segment. One that has its words and no end (the last line of an
        LRC) ends with the clip."""
        return bool(clip.segments) and clip.segments[-1].end is None and not clip.segments[-1].text

    def present(self, spec: ExampleSpec) -> bool:
        """See `Feature.present`."""
        return spec.with_timestamps

    def put(self, spec: ExampleSpec, draw: int) -> ExampleSpec:
        """See `Feature.put`."""
        return replace(spec, with_timestamps=True)


class PreviousText(Feature):
    """The text before the clip is given."""

    name = "previous"
    shown = "previous text"
    setting = "previous_share"
    needs = "has text before it (prev_transcript)"
    recorded = "with_previous"

    def share(self, examples: Examples) -> float:
        """See `Feature.share`."""
        return examples.previous_share

    def able(self, clip: Clip) -> bool:
        """See `Feature.able`."""
        return bool(clip.prev_transcript and clip.prev_transcript.strip())

    def present(self, spec: ExampleSpec) -> bool:
        """See `Feature.present`."""
        return spec.with_previous

    def put(self, spec: ExampleSpec, draw: int) -> ExampleSpec:
        """See `Feature.put`."""
        return replace(spec, with_previous=True)


class FullLength(Feature):
    """The clip is padded to the model's full window."""

    name = "full_length"
    shown = "full length"
    setting = "full_length_share"

    def share(self, examples: Examples) -> float:
        """All of them where the recipe pads."""
        return examples.padded_share

    def asked_by(self, examples: Examples) -> str:
        """See `Feature.asked_by`: shares of contexts, the context of all, or a share beside it."""
        if examples.contexts is not None:
            return "contexts.padded"
        return "context" if examples.context == "padded" else self.setting

    def present(self, spec: ExampleSpec) -> bool:
        """See `Feature.present`."""
        return spec.full_length

    def put(self, spec: ExampleSpec, draw: int) -> ExampleSpec:
        """See `Feature.put`."""
        return replace(spec, full_length=True)


class CachedSilence(Feature):
    """Silence that was encoded beforehand stands behind the clip; one that is padded has its own."""

    name = "cached"
    shown = "cached silence"
    setting = "context"

    def share(self, examples: Examples) -> float:
        """All that are not padded where the recipe's context is cached."""
        return examples.cached_share

    def asked_by(self, examples: Examples) -> str:
        """See `Feature.asked_by`: shares of contexts, or the context of all."""
        return "context" if examples.contexts is None else "contexts.cached"

    def chance(
        self, examples: Examples, able: Sequence[float], bound: Sequence[float], shares: Sequence[float]
    ) -> Chance:
        """See `Feature.chance`: of the examples that are not padded."""
        share, free = examples.cached_share, 1.0 - examples.padded_share
        return Chance(share, share, min(share / free, 1.0) if free > 0 else 0.0)

    def present(self, spec: ExampleSpec) -> bool:
        """See `Feature.present`."""
        return spec.cached

    def put(self, spec: ExampleSpec, draw: int) -> ExampleSpec:
        """See `Feature.put`."""
        return spec if spec.full_length else replace(spec, cached=True)


@dataclass(frozen=True)
class Augmentation(Feature):
    """The recording is made harder, every one as `augmenter` draws it; without one nothing is."""

    name = "augmentation"
    shown = "augmented"
    setting = "augment"
    loaded = True
    watched = False

    augmenter: Augmenter | None = None
    longest_seconds: float = WINDOW_SECONDS

    def share(self, examples: Examples) -> None:
        """The settings of the augmentation say how often."""
        return

    def asked(self, examples: Examples) -> bool:
        """See `Feature.asked`."""
        return examples.augment is not None

    def bound(self, clip: Clip) -> bool:
        """See `Feature.bound`."""
        return self.augmenter is not None

    def present(self, spec: ExampleSpec) -> bool:
        """See `Feature.present`."""
        return spec.augment_draw is not None

    def put(self, spec: ExampleSpec, draw: int) -> ExampleSpec:
        """The length after augmentation is known before any audio is read; what would not fit a window stays as it is."""
        assert self.augmenter is not None
        factor = self.augmenter.speed_factor(spec.clip.id, draw)
        seconds = spec.clip.duration / factor
        if seconds > self.longest_seconds:
            return spec
        changed = augmented_clip(spec.clip, factor, seconds)
        return replace(spec, clip=changed, recorded=spec.clip, augment_draw=draw)

    def on_samples(self, samples: Samples, spec: ExampleSpec) -> Samples:
        """See `Feature.on_samples`."""
        if self.augmenter is None or spec.augment_draw is None:
            return samples
        return self.augmenter(samples, (spec.recorded or spec.clip).id, spec.augment_draw)[0]


@dataclass(frozen=True)
class SpecAugment(Feature):
    """Stripes of the spectrogram are hidden; the example must have it as `mel` [bands, frames]."""

    name = "spec_augment"
    shown = "SpecAugment"
    setting = "spec_augment.share"
    loaded = True
    watched = False

    settings: SpecAugmentSettings = field(default_factory=SpecAugmentSettings)
    seed: int = 0

    def share(self, examples: Examples) -> float:
        """See `Feature.share`."""
        return examples.spec_augment.share

    def present(self, spec: ExampleSpec) -> bool:
        """See `Feature.present`."""
        return spec.mask_draw is not None

    def put(self, spec: ExampleSpec, draw: int) -> ExampleSpec:
        """See `Feature.put`."""
        return replace(spec, mask_draw=draw)

    def on_example(self, example: Any, spec: ExampleSpec) -> Any:
        """See `Feature.on_example`."""
        if spec.mask_draw is None:
            return example
        hidden = hide(example.mel, self.settings, spec.clip.duration, self.seed, spec.mask_draw)
        return replace(example, mel=hidden)


# In the order in which they are put on an example.
FEATURES: tuple[Feature, ...] = (
    Timestamps(),
    PreviousText(),
    FullLength(),
    CachedSilence(),
    Augmentation(),
    SpecAugment(),
)


def rendered(names: Sequence[str]) -> tuple[Feature, ...]:
    """The features that a family's examples can have; `names` are those of `Renderer.features`."""
    return tuple(feature for feature in FEATURES if feature.loaded or feature.name in names)


def ready(
    names: Sequence[str], examples: Examples, seed: int, augmenter: Augmenter | None, longest_seconds: float
) -> tuple[Feature, ...]:
    """The same, with what they need to be put on the examples of a run."""
    own: dict[str, Feature] = {
        Augmentation.name: Augmentation(augmenter, longest_seconds),
        SpecAugment.name: SpecAugment(examples.spec_augment, seed),
    }
    return tuple(own.get(feature.name, feature) for feature in rendered(names))
