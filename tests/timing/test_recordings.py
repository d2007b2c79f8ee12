"""A long recording and its whole text: each window gets its part."""

import pytest

from following import TEXT, Following, said
from govor.timing.recordings import Window, align_recording, share


def test_each_window_gets_its_part_of_the_text() -> None:
    pieces = [f" {word}" for word in ["alfa", "beta", "gama", "delta", "epsilon", "zeta", "eta", "theta"]]
    assert share(pieces, ["alfa beta gma", "delta epsylon", "zeta eta tetha"]) == [[0, 1, 2], [3, 4], [5, 6, 7]]
    # Something said that is not in the text, and a wrong word.
    assert share(pieces, ["alfa beta", "completely other words here", "gama delta epsilon zeta eta theta"])[2] == [
        2,
        3,
        4,
        5,
        6,
        7,
    ]
    long = [*pieces[:3], *(f" nikdy{i}nevyřčeno" for i in range(4)), *pieces[3:]]
    parts = share(long, ["alfa beta gama", "delta epsilon zeta eta theta"])
    assert parts[0] == [0, 1, 2] and parts[1] == [7, 8, 9, 10, 11], "a line that nobody says belongs to no window"
    assert share(pieces, ["", ""]) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert share([], ["x"]) == [[]] and share(pieces, []) == []


def test_a_recording_is_aligned_by_its_windows() -> None:
    parts = [Window(10.0, said(TEXT), TEXT), Window(40.0, said("vid zem"), "vid zem")]
    found = align_recording(Following(), parts, [f" {word}" for word in f"{TEXT} vid zem".split()], "en")
    assert [word.start for word in found.words] == pytest.approx([10.5, 10.8, 11.1, 11.4, 40.5, 40.8], abs=0.06)
