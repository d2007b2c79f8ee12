"""Clips joined to lines whose times are known."""

from pathlib import Path

import numpy as np
import soundfile

from following import said
from govor.audio import SAMPLE_RATE
from govor.corpus.records import Clip
from govor.timing.splice import splices


def test_splices_are_what_they_say(workspace: Path) -> None:
    clips = []
    for number in range(12):
        soundfile.write(workspace / f"{number}.wav", said("sol luna", 0.3), SAMPLE_RATE)
        clips.append(Clip(str(number), f"{number}.wav", "sol luna", len(said("sol luna", 0.3)) / SAMPLE_RATE, "en"))
    clips.append(Clip("gone", "gone.wav", "mar", 1.0, "en"))
    made = list(splices(clips, 3, 0))
    assert made and [s.lines for s in made] == [s.lines for s in splices(clips, 3, 0)]
    for splice in made:
        for line in splice.lines:
            inside = splice.samples[round(line.start * SAMPLE_RATE) : round(line.end * SAMPLE_RATE)]
            before = splice.samples[round(line.start * SAMPLE_RATE) - 800 : round(line.start * SAMPLE_RATE)]
            assert np.abs(inside[:800]).max() > 0.1 and np.abs(before).max() < 0.01
