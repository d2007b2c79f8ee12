"""Recordings of any length, and rows that lie about theirs."""

from pathlib import Path

import pytest
import soundfile

from conftest import speech
from following import TEXT, Following
from govor.audio import SAMPLE_RATE
from govor.corpus.records import Clip
from govor.errors import AudioError
from govor.timing.any_length import align_any


def recording(path: Path, seconds: float) -> Path:
    soundfile.write(path, speech(["sol"] * int(seconds / 0.3), seconds), SAMPLE_RATE)
    return path


def test_a_row_that_lies_about_its_length_is_refused(workspace: Path) -> None:
    recording(workspace / "a.wav", 3)
    with pytest.raises(AudioError, match=r"its manifest says 9\.00 s"):
        align_any(Following(), Clip("a", "a.wav", TEXT, 9.0, "en"), "speech", None)
    found, seconds = align_any(Following(), Clip("a", "a.wav", TEXT, 9.0, "en"), "speech", None, check=False)
    assert seconds == pytest.approx(3.0) and len(found.words) == 4
