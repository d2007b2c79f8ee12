"""The words of a song beside its recording."""

from pathlib import Path

import pytest

from govor.errors import GovorError
from govor.timing.lyrics import read_lyrics


def test_lyrics_of_any_kind_and_a_time_line_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("[00:01.00]prvi\n[00:02.00]drugi")
    assert read_lyrics(tmp_path / "a.txt") == ["prvi", "drugi"]
    (tmp_path / "b.SRT").write_text("1\n00:00:xx --> 00:00:02,000\nx")
    with pytest.raises(GovorError, match=r"b.SRT: line 2"):
        read_lyrics(tmp_path / "b.SRT")
