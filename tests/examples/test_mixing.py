"""Mixing: exact shares, every row in turn, nothing remembered; chances of features; stripes."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from govor.corpus.records import Clip
from govor.examples.batching import Plan
from govor.examples.mixing import Mixture, chance
from govor.examples.phases import Phase
from govor.examples.settings import SpecAugment
from govor.examples.spec import ExampleSpec
from govor.examples.spec_augment import hide

weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=6).filter(any)


@settings(max_examples=60)
@given(weights, st.integers(0, 5), st.integers(0, 10_000_000))
def test_the_first_draws_hold_each_source_in_its_share(weights: list[float], seed: int, draws: int) -> None:
    mixture = Mixture(tuple(7 for _ in weights), tuple(weights))
    counts = mixture.counts(draws, seed)
    assert sum(counts) == draws
    for count, share in zip(counts, mixture.shares, strict=True):
        # Each split of the rest rounds once, so the last of six sources may be off by their number.
        assert abs(count - share * draws) <= len(weights)
        assert share > 0 or count == 0


@settings(max_examples=30)
@given(weights, st.integers(0, 5), st.integers(0, 1_000_000))
def test_every_draw_belongs_to_one_source_and_takes_its_next_row(weights: list[float], seed: int, first: int) -> None:
    mixture = Mixture(tuple(5 for _ in weights), tuple(weights))
    turns = list(mixture.counts(first, seed))
    for draw in range(first, first + 200):
        source, turn = mixture.place(seed, draw)
        assert turn == turns[source]
        turns[source] += 1
    assert tuple(turns) == mixture.counts(first + 200, seed)


def test_each_source_is_seen_whole_before_any_row_comes_again() -> None:
    mixture = Mixture((10, 4), (0.8, 0.2))
    rows = [mixture.row(3, draw) for draw in range(200)]
    big, small = [row for row in rows if row < 10], [row - 10 for row in rows if row >= 10]
    assert (len(big), len(small)) == (160, 40)
    for drawn, size in ((big, 10), (small, 4)):
        for passed in _batched(drawn, size):
            assert sorted(passed) == list(range(size))


def _batched(items: list[int], size: int) -> list[list[int]]:
    return [items[at : at + size] for at in range(0, len(items), size)]


def test_sources_interleave_and_the_seed_shifts_them() -> None:
    mixture = Mixture((1000, 100, 100), (0.9, 0.075, 0.025))
    orders = [[mixture.place(seed, draw)[0] for draw in range(400)] for seed in range(4)]
    assert len({tuple(order) for order in orders}) == 4
    for order in orders:
        assert all(Counter(order[at : at + 40])[0] in (35, 36, 37) for at in range(0, 400, 40))


def test_one_source_alone_is_its_own_permutation() -> None:
    mixture = Mixture((23,), (1.0,))
    assert sorted(mixture.row(0, draw) for draw in range(23)) == list(range(23))
    assert [mixture.row(0, d) for d in range(23)] != [mixture.row(0, d) for d in range(23, 46)]


def test_an_epoch_is_all_rows_or_one_source_seen_once() -> None:
    mixture = Mixture((1_000_000, 40_000, 186_000), (0.9, 0.075, 0.025))
    assert mixture.epoch_draws() == 1_226_000
    draws = mixture.epoch_draws(0)
    assert draws == 1_111_112
    repeats = [count / rows for count, rows in zip(mixture.counts(draws), mixture.rows, strict=True)]
    assert repeats == pytest.approx([1.0, 2.08, 0.149], rel=0.01), "the numbers of the field notes"
    assert Mixture((10, 5), (1.0, 0.0)).epoch_draws() == 10, "rows that are not drawn do not lengthen an epoch"


class Rows:
    def __len__(self) -> int:
        return 30

    def spec(self, row: int, draw: int) -> ExampleSpec:
        return ExampleSpec(Clip(f"{row}/{draw}", "a.wav", "x", 1.0, "cs"), "cs")

    def cost_frames(self, spec: ExampleSpec) -> int:
        return 100


@pytest.mark.parametrize("world", [1, 2, 3])
def test_phases_draw_from_their_own_mixture_whatever_the_processes(world: int) -> None:
    first, second = Mixture((20, 10), (1.0, 0.0)), Mixture((20, 10), (0.5, 0.5), number=1)
    plan = Plan(Rows(), 0, 6, 3.0, world, (Phase("one", 0, 4, first), Phase("two", 4, 4, second)))
    seen = [
        sorted(spec.clip.id for rank in range(world) for b in plan.step(step, rank) if b.counts for spec in b.specs)
        for step in range(8)
    ]
    alone = Plan(Rows(), 0, 6, 3.0, 1, (Phase("one", 0, 4, first), Phase("two", 4, 4, second)))
    assert seen == [sorted(spec.clip.id for b in alone.step(step) for spec in b.specs) for step in range(8)]
    rows = [int(name.split("/")[0]) for step in seen for name in step]
    assert all(row < 20 for row in rows[:24]) and sum(row >= 20 for row in rows[24:]) == 12
    assert sorted(int(name.split("/")[1]) for step in seen for name in step) == list(range(48)), "draws count through"


def test_a_feature_gets_its_share_of_all_rows_as_far_as_rows_can_carry_it() -> None:
    whole = chance(0.4, [1.0], [0.0], [1.0])
    assert (whole.reachable, whole.probability) == (0.4, 0.4)
    half = chance(0.4, [0.5], [0.0], [1.0])
    assert half.probability == pytest.approx(0.8)
    never = chance(0.4, [1.0, 0.0], [0.0, 0.0], [0.1, 0.9])
    assert never.reachable == pytest.approx(0.1) and never.probability == 1.0
    bound = chance(0.4, [1.0], [0.1], [1.0])
    assert bound.probability == pytest.approx(0.3 / 0.9), "rows that always have it count first"
    assert chance(0.0, [1.0], [0.2], [1.0]).reachable == 0.2
    assert chance(0.0, [1.0], [0.2], [1.0]).probability == 0.0


def test_stripes_hide_what_they_should_and_nothing_of_the_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(80, 500, generator=generator)
    settings = SpecAugment(share=1.0, time_stripe_seconds=0.5, frequency_stripe_bands=20)
    seen_columns, seen_bands = 0, 0
    for draw in range(50):
        hidden = hide(mel, settings, 2.0, 0, draw)
        assert torch.equal(hidden[:, 200:], mel[:, 200:]), "the padding behind 2 s is left alone"
        changed = hidden[:, :200] != mel[:, :200]
        columns, bands = changed.all(0).sum().item(), changed.all(1).sum().item()
        assert columns <= 2 * 20 and bands <= 40, "a tenth of the clip a stripe, 20 bands a stripe"
        seen_columns, seen_bands = max(seen_columns, columns), max(seen_bands, bands)
        assert torch.equal(hidden, hide(mel, settings, 2.0, 0, draw)), "the draw decides"
    assert seen_columns > 20 and seen_bands > 20, "two stripes of each kind"
    assert not torch.equal(hide(mel, settings, 2.0, 0, 1), hide(mel, settings, 2.0, 1, 1))
    assert torch.equal(hide(mel[:, :3], settings, 0.02, 0, 0)[:, 2:], mel[:, 2:3]), "shorter than a stripe"


@pytest.mark.parametrize("weights", [(1.0, 1e-17, 1e-17), (1e308, 1e308), (1e-300, 1.0), (5e-324, 5e-324, 1.0)])
def test_extreme_weights_mix_all_the_same(weights: tuple[float, ...]) -> None:
    mixture = Mixture(tuple(3 for _ in weights), weights)
    assert sum(mixture.counts(1000)) == 1000
    assert all(0 <= mixture.row(0, draw) < 3 * len(weights) for draw in range(100))


def test_many_sources_do_not_make_a_draw_dear() -> None:
    from govor.examples import mixing

    made = []
    plain = mixing.np.random.default_rng
    mixture = Mixture(tuple(1000 for _ in range(40)), tuple(1.0 for _ in range(40)))
    mixing._orders.clear()
    try:
        mixing.np.random.default_rng = lambda *a: made.append(a) or plain(*a)  # type: ignore[method-assign, assignment]
        for draw in range(4000):
            mixture.row(0, draw)
    finally:
        mixing.np.random.default_rng = plain  # type: ignore[method-assign]
    assert len(made) == 40, "one order a source"
