"""Is one model better than another? No verdict from few clips, none from noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from govor.errors import GovorError
from govor.metrics.compare import compare, normalisation_share
from govor.metrics.intervals import choose_clusters, interval, paired_difference
from govor.metrics.recognition import summarise, with_counts
from govor.metrics.wer import COUNTED


def row(number: int, reference: str = "jedan dva", hypothesis: str = "jedan dva") -> dict[str, object]:
    about = {"language": "sr", "speaker": None, "source": None, "duration": 2.0, "audio": f"{number}.wav"}
    return {"id": f"c{number}", "reference": reference, "hypothesis": hypothesis, **about}


@pytest.mark.parametrize("count", [2, 3, 5, 6, 7, 12])
def test_few_clips_give_no_verdict(count: int) -> None:
    """P42: no test of n clips is below 2^(1 - n)."""
    before = with_counts([row(i, hypothesis="ne ne") for i in range(count)])
    after = with_counts([row(i) for i in range(count)])
    result = compare(before, after, "a", "b")
    assert result["wer"]["p_value"] >= 2.0 ** (1 - count)
    assert ("B is better" in result["verdict"]) == (count >= 6)
    assert (result["wer"]["difference_interval"] is None) == (count < 6)
    assert (summarise(after)["wer_interval"] is None) == (count < 6)
    assert count >= 6 or (
        f"no verdict: {count} clip(s)" in result["verdict"] and "no verdict" in result["test"]["note"]
    )


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=30))
def test_p_is_never_below_that_of_a_sign_flip_test(changes: list[int]) -> None:
    clusters = choose_clusters([{"id": str(i)} for i in range(len(changes))])
    found = paired_difference([3] * len(changes), [3 + c for c in changes], [10] * len(changes), clusters)
    assert found.p_value is not None and found.p_value >= min(1, 2.0 ** (1 - sum(c != 0 for c in changes)))
    assert (interval([1] * len(changes), [10] * len(changes), clusters) is None) == (len(changes) < 6)


def rows(errors: list[int], length: int = 10, speakers: int = 20) -> list[dict[str, object]]:
    counts = {"deletions": 0, "insertions": 0, "length": length}
    return [
        {"id": f"c{i}", "speaker": f"s{i % speakers}", "source": None, "language": "cs", "duration": 2.0 + i,
         "reference": "x", "hypothesis": "y",
         **{key: {"substitutions": e, **counts} for key in COUNTED}}
        for i, e in enumerate(errors)
    ]  # fmt: skip


def test_the_paired_test_sees_a_small_steady_gain_and_no_gain_in_noise() -> None:
    generator = np.random.default_rng(1)
    before = generator.integers(0, 6, 200)
    clusters = choose_clusters(rows([0] * 200))
    better = paired_difference(before, np.maximum(before - (generator.random(200) < 0.3), 0), [10] * 200, clusters)
    assert better.p_value is not None and better.p_value < 0.01 and better.difference < 0
    noise = paired_difference(before, before + generator.integers(-1, 2, 200), [10] * 200, clusters)
    assert noise.p_value is not None and noise.p_value > 0.05
    same = paired_difference(before, before, [10] * 200, clusters)
    assert same.difference == 0 and same.p_value == 1.0


def test_comparing_refuses_other_clips_and_names_them() -> None:
    left, right = rows([1, 2, 3]), rows([1, 2])
    with pytest.raises(GovorError, match=r"B lacks 1 of the clips of A \(c2\)"):
        compare(left, right, "A", "B")
    other = [{**row, "reference": "z"} for row in left]
    with pytest.raises(GovorError, match="references of 3 clips differ"):
        compare(left, other, "A", "B")


def test_the_comparison_counts_wins_and_names_the_biggest() -> None:
    result = compare(rows([3] * 40), rows([1] * 30 + [3] * 9 + [5]), "A", "B")
    assert (result["better"], result["worse"], result["same"]) == (30, 1, 9)
    assert result["biggest_losses"] == ["c39"] and len(result["biggest_gains"]) == 5
    assert "better" in result["verdict"]


def clips(hypotheses: list[str], reference: str = "kuća čaša đak") -> list[dict[str, object]]:
    return with_counts(
        [
            {"id": f"c{i}", "reference": reference, "hypothesis": text, "language": "hr", "duration": 1.5 + i % 12,
             "speaker": f"s{i % 3}", "source": None, "snr_db": 10.0 + i % 30}
            for i, text in enumerate(hypotheses)
        ]
    )  # fmt: skip


def test_a_gain_of_spelling_alone_is_told_from_one_of_words() -> None:
    spelled = normalisation_share(clips(["kuca casa dak"] * 20), clips(["kuća čaša đak"] * 20))
    assert spelled["share_of_gain"] == 1.0 and spelled["lenient_gain"] == 0
    words = normalisation_share(clips(["ne ne ne"] * 20), clips(["kuća čaša đak"] * 20))
    assert words["share_of_gain"] == 0
    assert normalisation_share(clips(["kuća čaša đak"]), clips(["ne"]))["share_of_gain"] is None
