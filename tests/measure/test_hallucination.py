"""What a model writes where nobody speaks."""

from typing import Any

import numpy as np

from govor.corpus.records import Clip
from govor.families.base import Hypothesis
from govor.measure.hallucination import measure, sentence, sounds


def clips(count: int) -> list[Clip]:
    return [
        Clip(f"c{i}", f"{i}.wav", f"věta číslo {i % 50} slov {'x' * (i % 7)}", 1.0 + i % 5, "cs", speaker=f"s{i % 3}")
        for i in range(count)
    ]


class Talker:
    name = "talker"
    longest_seconds = 30.0

    def __init__(self, **about: Any) -> None:
        self.about = about

    def transcribe(self, clips: Any, *_: Any, **__: Any) -> list[Hypothesis]:
        return [Hypothesis(**{"text": "slova", "tokens": [1, 2], "mean_logprob": -0.1, **self.about}) for _ in clips]


def test_words_for_nothing_are_counted_and_guards_help() -> None:
    made = list(sounds())
    assert {len(wave) / 16_000 for _, wave in made} == {1.0, 4.0, 10.0, 28.0} and len({kind for kind, _ in made}) == 7
    assert all(np.isfinite(wave).all() and np.abs(wave).max() <= 1 for _, wave in made)
    loud: Any = Talker()
    found = measure(loud, "cs", "speech")
    assert found["bare_rate"] == 1.0 and found["guarded_rate"] < 1.0
    assert found["by_kind"]["silence"]["guarded_rate"] == 0.0 and found["by_kind"]["music"]["guarded_rate"] == 1.0
    quiet: Any = Talker(text="")
    assert measure(quiet, "cs", "speech")["bare_rate"] == 0.0
    doubting: Any = Talker(mean_logprob=-2.0, no_speech=0.9)
    assert measure(doubting, "cs", "speech")["hallucination_rate"] == 0.0
    assert "100% of" in sentence({"model": "m", "context": "speech", **found})
