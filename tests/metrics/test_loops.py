"""What goes in circles is told from emphasis, in every script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govor.metrics.loops import COMPRESSION, compression_ratio, loop_at

GEORGIAN = (
    "საქართველოს დედაქალაქი თბილისი მდებარეობს მტკვრის ნაპირებზე და მას ათას ხუთასზე მეტი წლის ისტორია აქვს ხალხი აქ "
    "სხვადასხვა ენაზე საუბრობს ქუჩებში ხშირად ისმის მუსიკა ბაზარში კი ყოველ დილით ახალი ხილი მოაქვთ ახლომდებარე სოფლებიდან"
)


@pytest.mark.parametrize(
    ("tokens", "at"),
    [
        ([1, 2, 3] * 6, 3),
        ([9, 8, 7, *[5] * 14], 4),
        ([1, 2, 3, 1, 2, 3], None),
        ([4, 4, 4, 4], None),
        (list(range(50)), None),
        ([], None),
        (("ne " * 11).split(), None),
        (("a b c d " * 4).split(), 4),
    ],
)
def test_loops_are_seen_and_emphasis_is_not(tokens: list[int], at: int | None) -> None:
    assert loop_at(tokens) == at


def slow_loop_at(tokens: list[int]) -> int | None:
    """The definition, without any short cut: where a run of tokens equal to those one period before is long enough."""
    for period in range(1, min(40, len(tokens) // 4) + 1):
        wanted, run = max(3 * period, 12 - period), 0
        for place in range(len(tokens) - period):
            run = run + 1 if tokens[place] == tokens[place + period] else 0
            if run >= wanted:
                return place - run + 1 + period
    return None


@given(st.lists(st.integers(0, 5), max_size=6), st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(0, 12),
       st.lists(st.integers(0, 2), max_size=20))  # fmt: skip
def test_few_repeated_tokens_are_no_short_cut_past_a_loop(
    before: list[int], block: list[int], times: int, after: list[int]
) -> None:
    tokens = [*before, *block * times, *after]
    assert loop_at(tokens) == slow_loop_at(tokens)


def test_letters_of_three_bytes_are_no_loop() -> None:
    import zlib

    by_bytes = len(GEORGIAN.encode()) / len(zlib.compress(GEORGIAN.encode()))
    assert by_bytes > COMPRESSION > compression_ratio(GEORGIAN)
    english = "it is a long way to the station and back again before the evening train leaves"
    assert compression_ratio(english) == len(english) / len(zlib.compress(english.encode()))
    assert compression_ratio("და ასე " * 20) > COMPRESSION and compression_ratio("") == 0
    assert compression_ratio("".join(map(chr, range(0x4E00, 0x4F80)))) < COMPRESSION, "more letters than bytes are"
