"""The plan: every row once an epoch, the same on every machine, nothing lost between ranks."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.examples.batching import MicroBatch, Plan, check_plan, deal, pack
from govor.examples.spec import ExampleSpec


class Rows:
    """Rows of pseudo-random length."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def spec(self, row: int, draw: int) -> ExampleSpec:
        return ExampleSpec(Clip(str(row), "a.wav", "x", 1 + row % 7, "cs"), "cs")

    def cost_frames(self, spec: ExampleSpec) -> int:
        return 100 * int(spec.clip.duration)


def ids(batches: list[MicroBatch]) -> list[str]:
    return [spec.clip.id for batch in batches if batch.counts for spec in batch.specs]


def test_each_epoch_sees_every_row_once() -> None:
    plan = Plan(Rows(23), 1, 5, 10.0)
    drawn = [row for step in range(46) for _, row in plan.draws(step)]
    for epoch in range(10):
        assert sorted(drawn[epoch * 23 : (epoch + 1) * 23]) == list(range(23))
    assert drawn[:23] != drawn[23:46], "epochs have orders of their own"


def test_the_plan_is_a_pure_function() -> None:
    first, again = Plan(Rows(50), 3, 8, 12.0, 2), Plan(Rows(50), 3, 8, 12.0, 2)
    assert first.step(17, 1) == again.step(17, 1)
    assert ids(first.step(17)) != ids(Plan(Rows(50), 4, 8, 12.0, 2).step(17))


@given(st.integers(1, 40), st.integers(1, 6), st.floats(1, 30), st.integers(0, 20))
def test_ranks_share_the_step_without_loss_or_doubles(clips: int, world: int, budget: float, step: int) -> None:
    source = Rows(100)
    one = Plan(source, 0, clips, budget)
    many = Plan(source, 0, clips, budget, world)
    ranks = [many.step(step, rank) for rank in range(world)]
    assert Counter(name for rank in ranks for name in ids(rank)) == Counter(ids(one.step(step)))
    assert len({len(rank) for rank in ranks}) == 1, "every rank runs as many micro-batches"


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.floats(1, 60))
def test_micro_batches_keep_to_the_budget(seconds: list[int], budget: float) -> None:
    specs = [ExampleSpec(Clip(str(i), "a", "x", s, "cs"), "cs") for i, s in enumerate(seconds)]
    batches = pack([(spec, 100 * int(spec.clip.duration)) for spec in specs], budget)
    assert Counter(ids(batches)) == Counter(spec.clip.id for spec in specs)
    assert all(len(batch.specs) == 1 or batch.context_seconds <= budget for batch in batches)


def test_a_rank_without_work_repeats_with_weight_zero() -> None:
    spec = ExampleSpec(Clip("a", "a.wav", "x", 1, "cs"), "cs")
    ranks = deal([(spec, 100)], 30.0, 3)
    assert [[batch.counts for batch in rank] for rank in ranks] == [[True], [False], [False]]


@given(st.lists(st.integers(1, 30), min_size=16, max_size=80), st.integers(2, 8), st.floats(30, 120))
def test_no_rank_has_more_audio_than_another_by_more_than_a_clip(seconds: list[int], world: int, budget: float) -> None:
    examples = [(ExampleSpec(Clip(str(i), "a", "x", s, "cs"), "cs"), 100 * s) for i, s in enumerate(seconds)]
    ranks = deal(examples, budget, world)
    loads = [sum(batch.context_seconds for batch in rank if batch.counts) for rank in ranks]
    assert max(loads) - min(loads) <= max(seconds)
    assert all(len(batch.specs) == 1 or batch.context_seconds <= budget for rank in ranks for batch in rank)


def test_fewer_clips_than_devices_is_refused() -> None:
    with pytest.raises(GovorError, match="clips_per_step is 2 and there are 4 devices"):
        check_plan(10, 2, 4)
