"""The figures of the report."""

from typing import Any

import pytest

from govor.metrics.errors import letter_confusions, position_by_length, word_confusions
from govor.metrics.recognition import with_counts
from govor.metrics.wer import word_diffs


def test_letters_of_clips_without_any_answer_are_counted() -> None:
    found = letter_confusions([{"reference": "aab", "hypothesis": ""}, {"reference": "", "hypothesis": "c"}])
    places = {letter: place for place, letter in enumerate(found["letters"])}
    assert found["counts"][places["a"]][places["∅"]] == 2 and found["counts"][places["∅"]][places["c"]] == 1


def test_confusions_are_counted_where_they_lie() -> None:
    rows: list[dict[str, Any]] = with_counts(
        [
            {"id": str(i), "reference": "kuća čaša", "hypothesis": "kuca čaš", "duration": 2.0, "language": "hr"}
            for i in range(3)
        ]
    )
    letters = letter_confusions(rows)
    at = {letter: place for place, letter in enumerate(letters["letters"])}
    assert letters["counts"][at["ć"]][at["c"]] == 3
    diffs = word_diffs([(row["reference"], row["hypothesis"]) for row in rows])
    assert {"said": "kuća", "heard": "kuca", "count": 3} in word_confusions(diffs)
    (band,) = position_by_length(rows, diffs)["rows"]
    assert sum((cell["wer"] or 0) * cell["words"] for cell in band["cells"]) == pytest.approx(6)
    assert letter_confusions([]) == {"letters": [], "counts": []} and word_confusions([]) == []
