"""Which attention heads follow the speech, measured and kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from conftest import Silent, speech
from following import Following, said
from govor.audio import SAMPLE_RATE
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.families.base import Aligner
from govor.families.task import DecodeOptions
from govor.families.whisper.attention import all_heads
from govor.families.whisper.model import Whisper
from govor.families.whisper.tiny import tiny
from govor.runs import Workspace
from govor.timing.any_length import alignment_heads
from govor.timing.heads import measure_heads, store_heads, stored_heads


def test_a_tiny_whisper_attends_with_every_head_and_sums_to_one() -> None:
    model = tiny()
    assert isinstance(model, Aligner) and isinstance(model, Whisper)
    pieces = [[" sol", " luna"], [" mar"], []]
    found = model.attend(
        [said("sol luna"), said("mar"), said("pan")], pieces, ["en"] * 3, DecodeOptions("padded"), model.heads
    )
    assert found[2] is None
    first = found[0]
    assert first is not None and first.heads == all_heads(model.module) and set(first.owner) == {0, 1}
    assert first.weights.shape[0] == len(model.heads) and len(first.logprobs) == first.weights.shape[1]
    # What the padding gets is cut off, so the sums lie below one.
    assert (first.weights.sum(axis=2) <= 1 + 1e-4).all() and (first.weights >= 0).all()
    alone = model.attend([said("mar")], [[" mar"]], ["en"], DecodeOptions("padded"), model.heads[:1])[0]
    assert alone is not None and found[1] is not None
    np.testing.assert_allclose(alone.weights[0], found[1].weights[0], atol=1e-5)


def test_heads_are_measured_and_kept(workspace: Path) -> None:
    # Each clip begins with 80 ms of a breath, which is sound but no word: what follows the words is late by that.
    breath = (0.01 * np.random.default_rng(0).standard_normal(1280)).astype(np.float32)
    clips = []
    for number in range(60):
        words = ["sol luna", "mar pan", "vid zem sol"][number % 3]
        wave = np.concatenate([breath, speech(words.split())])
        soundfile.write(workspace / f"{number}.wav", wave, SAMPLE_RATE)
        clips.append(Clip(str(number), f"{number}.wav", words, len(wave) / SAMPLE_RATE, "en"))
    measured = measure_heads(Following(), clips, "speech")
    assert measured is not None and measured.chosen.heads == ((0, 0),) and measured.error_seconds < 0.03
    assert measured.chosen.late_seconds == pytest.approx(0.08, abs=0.021)
    late = measure_heads(Following(late_frames=5), clips, "speech")
    assert late is not None and late.chosen.late_seconds == pytest.approx(0.18, abs=0.021)
    store_heads(workspace, measured, "speech", "x")
    assert stored_heads(workspace, Following.heads, "speech") == measured.chosen
    assert stored_heads(workspace, Following.heads, "padded") is None
    store_heads(workspace, measured, "padded", "x")
    assert (
        stored_heads(workspace, Following.heads, "speech")
        == stored_heads(workspace, Following.heads, "padded")
        == measured.chosen
    )
    with pytest.raises(GovorError, match="heads that this model does not have"):
        stored_heads(workspace, ((7, 7),), "speech")
    (workspace / "alignment.json").write_text('{"contexts": {"speech": {"heads": "no"}}}')
    with pytest.raises(GovorError, match="not what govor align writes"):
        stored_heads(workspace, Following.heads, "speech")
    assert measure_heads(Following(), clips[:3], "speech") is None
    (workspace / "alignment.json").unlink()
    progress = Silent()
    opened: Any = type(
        "Opened", (), {"recogniser": Following(), "folder": workspace, "name": "f", "language_token": None}
    )()
    assert alignment_heads(Workspace(), opened, clips, "speech", progress=progress) == measured.chosen
    assert (workspace / "alignment.json").exists() and "heads measured on" in progress.notes[0]
