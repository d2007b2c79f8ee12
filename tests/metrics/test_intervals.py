"""Intervals that cover the truth as often as they say."""

import numpy as np
import pytest

from govor.metrics import intervals as resampling
from govor.metrics.intervals import Corpus, choose_clusters, interval, intervals, paired_difference
from govor.metrics.wer import COUNTED


def test_resampling_is_over_many_clusters_as_before() -> None:
    generator = np.random.default_rng(0)
    errors = generator.integers(0, 4, 60)
    clusters = choose_clusters([{"id": str(i)} for i in range(60)])
    found = paired_difference(errors + 1, errors, [10] * 60, clusters)
    assert found.p_value is not None and found.p_value < 0.001 and found.interval is not None


def rows(errors: list[int], length: int = 10, speakers: int = 20) -> list[dict[str, object]]:
    counts = {"deletions": 0, "insertions": 0, "length": length}
    return [
        {"id": f"c{i}", "speaker": f"s{i % speakers}", "source": None, "language": "cs", "duration": 2.0 + i,
         "reference": "x", "hypothesis": "y",
         **{key: {"substitutions": e, **counts} for key in COUNTED}}
        for i, e in enumerate(errors)
    ]  # fmt: skip


def test_clusters_are_speakers_then_sources_then_clips_and_it_is_said() -> None:
    assert choose_clusters(rows([0] * 40)).unit == "speaker"
    few = [{**row, "source": f"r{i % 15}"} for i, row in enumerate(rows([0] * 40, speakers=3))]
    chosen = choose_clusters(few)
    assert chosen.unit == "source" and "only 3 speaker(s) known" in chosen.note
    assert choose_clusters(rows([0] * 40, speakers=3)).unit == "clip"


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(120):
        # Speakers differ: a clip-wise interval would be far too narrow here.
        rates = np.clip(generator.normal(0.3, 0.1, 30), 0, 1)
        errors = [int(generator.binomial(50, rate)) for rate in rates for _ in range(4)]
        clips = [{"id": str(i), "speaker": f"s{i // 4}", "source": None} for i in range(120)]
        found = interval(errors, [50] * 120, choose_clusters(clips))
        assert found is not None
        hits += found.low <= 0.3 <= found.high
    assert 0.87 < hits / 120 <= 1


def as_published(errors: list[int], lengths: list[int], labels: tuple[str, ...]) -> tuple[float, float]:
    """The interval by itself, as scores were printed before several were drawn together."""
    _, index = np.unique(labels, return_inverse=True)
    sums = np.zeros((index.max() + 1, 2))
    np.add.at(sums, index, np.column_stack([errors, lengths]).astype(float))
    count = len(sums)
    drawn = np.random.default_rng(20_040_517).multinomial(count, np.full(count, 1 / count), 10_000) @ sums
    drawn = drawn[drawn[:, 1] > 0]
    return tuple(np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975]))


@pytest.mark.parametrize("block", [1_000_000, 777])
def test_intervals_drawn_together_are_those_of_each_alone(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_BLOCK_NUMBERS", block)
    generator = np.random.default_rng(1)
    corpora = []
    for number, (clips, speakers) in enumerate([(60, 12), (90, 12), (30, 0), (31, 0), (45, 12), (5, 0), (40, 15)]):
        names = [f"Ž{i % speakers}" if speakers else None for i in range(clips)]
        clusters = choose_clusters([{"id": f"{number}-{i}", "speaker": name} for i, name in enumerate(names)])
        lengths = generator.integers(0, 9, clips)
        corpora.append(Corpus(generator.integers(0, 5, clips), lengths, clusters))
    together = intervals(corpora)
    assert together == [interval(corpus.errors, corpus.lengths, corpus.clusters) for corpus in corpora]
    assert together[5] is None
    for corpus, spread in zip(corpora, together, strict=True):
        if spread is not None:
            assert (spread.low, spread.high) == as_published(corpus.errors, corpus.lengths, corpus.clusters.labels)
    assert intervals([]) == []
