"""Each example feature is spelled once: it can be put on an example, is seen there, and a recipe can ask for it."""

from pathlib import Path
from typing import Any

import pytest

from govor.corpus.records import Clip, Segment
from govor.examples.augment import Augmenter, AugmentSettings
from govor.examples.dataset import Choices, TrainingSource
from govor.examples.features import FEATURES, Feature, PreviousText, Timestamps, ready, rendered
from govor.examples.settings import Examples
from govor.examples.spec import ExampleSpec
from govor.families.registry import family_class, family_names

RICH = Clip(
    "a",
    "a.wav",
    "ano ne",
    2.0,
    "cs",
    segments=(Segment(0.0, 1.0, "ano"), Segment(1.0, 2.0, "ne")),
    prev_transcript="no",
)
PLAIN = Clip("b", "b.wav", "ano", 2.0, "cs")
CUT = RICH.replace(id="c", segments=(Segment(0.0, 1.0, "ano"), Segment(1.0, None, "")))


def of_a_run(names: tuple[str, ...] = ("timestamps", "previous", "full_length")) -> tuple[Feature, ...]:
    return ready(names, Examples(), 0, Augmenter.of(AugmentSettings()), 30.0)


@pytest.mark.parametrize("feature", of_a_run(), ids=lambda feature: feature.name)
def test_what_is_put_on_an_example_is_seen_there_and_nothing_else(feature: Feature) -> None:
    spec = ExampleSpec(RICH, "cs")
    assert not any(other.present(spec) for other in FEATURES)
    assert [other.name for other in FEATURES if other.present(feature.put(spec, 7))] == [feature.name]


def test_names_and_settings_are_a_recipes_own() -> None:
    assert len({feature.name for feature in FEATURES}) == len({feature.shown for feature in FEATURES}) == 6
    for feature in FEATURES:
        value: Any = Examples()
        for part in feature.setting.split("."):
            value = getattr(value, part)
        assert not feature.asked(Examples())
    assert [f.name for f in FEATURES if f.asked(Examples(context="padded"))] == ["full_length"]
    assert [f.name for f in FEATURES if f.asked(Examples(context="cached"))] == ["cached"]


@pytest.mark.parametrize("name", family_names())
def test_a_family_names_features_that_there_are(name: str, tiny_folder: Path, qwen_folder: Path) -> None:
    folder = {"whisper": tiny_folder, "qwen3_asr": qwen_folder}[name]
    names = family_class(name).load_renderer(folder, Examples()).features
    assert set(names) <= {feature.name for feature in FEATURES}
    assert {"augmentation", "spec_augment"} <= {feature.name for feature in rendered(names)}, "done while loading"


def test_rows_that_cannot_show_a_feature_never_do_and_those_that_must_always_do() -> None:
    for probability, on_rich in ((0.0, False), (1.0, True)):
        choices = Choices(
            features=(Timestamps(), PreviousText()),
            probabilities=((0, {"timestamps": probability, "previous": probability}),),
        )
        source: Any = TrainingSource([[RICH, PLAIN, CUT]], None, 0, choices)  # type: ignore[arg-type]
        rich, plain, cut = (source.spec(row, 3) for row in range(3))
        assert (rich.with_timestamps, rich.with_previous) == (on_rich, on_rich)
        assert (plain.with_timestamps, plain.with_previous) == (False, False)
        assert (cut.with_timestamps, cut.with_previous) == (True, on_rich)


def test_draws_are_those_of_earlier_versions() -> None:
    """A resumed run of an earlier version draws on as it began: the seeds go by these names."""
    probabilities = {"timestamps": 0.4, "previous": 0.3, "full_length": 0.2, "spec_augment": 0.5}
    features = tuple(feature for feature in of_a_run() if feature.name != "augmentation")
    source = TrainingSource([[RICH]], None, 5, Choices(features=features, probabilities=((0, probabilities),)))  # type: ignore[arg-type]
    drawn = {
        feature.name: "".join("01"[feature.present(source.spec(0, draw))] for draw in range(24)) for feature in features
    }
    assert drawn == {
        "timestamps": "000000000110000010000001",
        "previous": "000000000000100100000100",
        "full_length": "100010000000001100000100",
        "spec_augment": "000010000100110110001110",
    }
