"""Words and lines: text, times, and who says it."""

from typing import Any

import numpy as np

from govor.corpus.records import Segment
from govor.timing.recordings import Window, align_recording
from govor.timing.words import Line, Word, lines_of_speakers, segments_of


def loud(seconds: float) -> Any:
    return (0.3 * np.sin(np.arange(int(seconds * 16_000)) * 0.3)).astype(np.float32)


def test_text_between_runs_of_another_script_is_not_cut_anew() -> None:
    pieces = [" OK", *"漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字", "go", "日", "本", "語"]
    found = align_recording(object(), [Window(0.0, loud(3.0), "OK go日本語")], pieces, "ja")  # type: ignore[arg-type]
    assert len(found.words) == len(pieces) and found.words[0].start is not None


def test_lines_keep_their_speakers() -> None:
    words = [Word("Da.", 0.0, 0.5), Word("Zovem", 0.6, 0.9), Word("se", 0.9, 1.0), Word("Fata.", 1.0, 1.2)]
    segments = (Segment(0.0, 0.5, "Da.", "Mujo"), Segment(0.5, 1.5, "Zovem se  Fata.", "Fata"))
    lines = lines_of_speakers(words, segments)
    assert [(line.text, line.speaker) for line in lines] == [("Da.", "Mujo"), ("Zovem se Fata.", "Fata")]
    assert [segment.speaker for segment in segments_of(lines)] == ["Mujo", "Fata"]
    assert [line.speaker for line in lines_of_speakers(words[:2], segments)] == [None], "other words: nobody is guessed"
    assert isinstance(lines[0], Line)
