"""A scoring that was stopped goes on, and is taken for no other."""

from pathlib import Path

from govor.measure.partial import Partial


def test_a_stopped_scoring_survives_line_separators(tmp_path: Path) -> None:
    rows = [{"id": str(i), "hypothesis": f"a{mark}b"} for i, mark in enumerate(("\u2028", "\u2029", "\x85"))]
    Partial(tmp_path / "x", {"model": "m"}, False, False).add(rows)
    assert Partial(tmp_path / "x", {"model": "m"}, True, False).rows == rows
    empty = Partial(tmp_path / "y", {"model": "m"}, False, False)
    assert empty.path.exists() and Partial(tmp_path / "y", {"model": "other"}, False, False).rows == []
