"""How well a model places words and lines in time."""

from pathlib import Path
from typing import Any

import numpy as np

from govor.measure.timestamps import Case, _foreign_line, measure, scored
from govor.timing.align import Aligned
from govor.timing.splice import Line, Splice
from govor.timing.subtitles import to_srt
from govor.timing.words import Word, filled, make_lines


def loud(seconds: float) -> Any:
    return (0.3 * np.sin(np.arange(int(seconds * 16_000)) * 0.3)).astype(np.float32)


def test_unsaid_words_are_lines_of_their_own_and_what_a_model_wrote_is_never_lost() -> None:
    said = [Word("Ahoj,", 1.0, 1.4), Word("tome.", 1.4, 1.9)]
    unsaid = [Word(word, None, None) for word in ["Tohle", "nikdo", "neřekl"]]
    lines = make_lines([*said, *unsaid, Word("Konec", 20.0, 20.5)])
    assert [line.text for line in lines] == ["Ahoj, tome.", "Tohle nikdo neřekl", "Konec"]
    assert "Tohle" not in to_srt(lines) and to_srt(lines).count("-->") == 2
    whole = filled([Word("a", None, None), *said, *unsaid], 0.0, 4.0)
    assert [round(word.start, 2) for word in whole if word.start is not None] == [0.0, 1.0, 1.4, 1.9, 2.56, 3.21]
    assert filled(unsaid, 0.0, 0.0)[-1].end == 0.0 and filled([], 0.0, 1.0) == []


def test_a_lost_line_is_no_better_than_a_misplaced_one() -> None:
    task = Case(loud(4.0), (" a", " b"), "cs", ((0, 1, 0.5, 1.0), (1, 2, 2.0, 3.0)))
    right, lost = Word("a", 0.5, 1.0), Word("b", None, None)
    found = scored([task], [Aligned((right, lost), "cross-attention")])
    assert found["offset_seconds"] == 0.5 and found["coverage"] == 0.5


def test_a_line_that_is_said_is_not_taken_for_unsaid(workspace: Path) -> None:
    one = Splice(loud(2.0), "cs", (Line("sol luna", 0.5, 1.0), Line("mar pan", 1.2, 1.8)))
    assert measure(object(), [one], "speech", None, ("unsaid line",)).get("unsaid line") is None
    other = Splice(loud(2.0), "cs", (Line("sol luna", 0.5, 1.0), Line("vid zem", 1.2, 1.8)))
    german = Splice(loud(2.0), "de", (Line("ganz anders", 0.5, 1.0), Line("noch mehr", 1.2, 1.8)))
    assert [_foreign_line([one, other, german], place) for place in range(3)] == ["vid zem", "mar pan", ""]
