"""Recordings longer than a window: no loop, no silence asked, no hour in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from conftest import speech
from following import TEXT, said
from govor.audio import SAMPLE_RATE
from govor.families.base import Hypothesis
from govor.families.task import DecodeOptions
from govor.families.whisper.tiny import tiny
from govor.timing.longform import LongFormOptions, Pace, transcribe_recording, transcribe_with_samples, windows

CZECH = DecodeOptions("speech", language="cs")


SPOKEN = (
    "Ráno jsme vyšli z domu ještě před svítáním a cesta vedla podél řeky až k starému mlýnu, kde čekal soused s vozem. "
    "Naložili jsme tři pytle mouky, bednu jablek i proutěný koš s vejci, protože v městě bývá v sobotu trh. "
    "Cestou zpívali drozdi, kůň pomalu klusal, děti spaly na slámě a otec vyprávěl, jak kdysi putoval přes hory do Tyrol. "
    "Večer nás zastihla bouřka, takže zbytek noci minul u krbu v hospodě."
)


class Scripted:
    """A recogniser that says what it is told to, by temperature; it remembers what it was asked."""

    name = "scripted"
    longest_seconds = 30.0

    def __init__(self, *answers: Hypothesis) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, float, Any]] = []

    def transcribe(
        self, clips: Sequence[Any], _languages: Any, options: DecodeOptions, *_: Any, previous: Any = None, **__: Any
    ) -> Any:
        self.asked.append((len(clips), options.temperature, previous))
        return [self.answers.pop(0) if self.answers else Hypothesis(SPOKEN, [1, 2], -0.2) for _ in clips]


def recording(path: Path, seconds: float) -> Path:
    soundfile.write(path, speech(["sol"] * int(seconds / 0.3), seconds), SAMPLE_RATE)
    return path


LOOP = Hypothesis("ne ne ne " * 8, [5, 6] * 12, -0.1)


def test_a_loop_is_drawn_again_and_else_cut_and_flagged(tmp_path: Path) -> None:
    file = recording(tmp_path / "x.wav", 5)
    model = Scripted(LOOP, LOOP, Hypothesis("dobré ráno", [1, 2, 3], -0.3))
    (piece,) = transcribe_recording(model, file, LongFormOptions(CZECH))  # type: ignore[arg-type]
    assert piece.text == "dobré ráno" and piece.flags == ("retried",)
    assert [asked[1] for asked in model.asked] == [0.0, 0.2, 0.4]
    stubborn = Scripted(*[LOOP] * 6)
    (piece,) = transcribe_recording(stubborn, file, LongFormOptions(CZECH))  # type: ignore[arg-type]
    assert piece.flags == ("loop",) and len(piece.text.split()) < 6


def test_windows_that_loop_are_drawn_again_together(tmp_path: Path) -> None:
    file = recording(tmp_path / "a.wav", 70)
    count = sum(len(spans) for _, _, spans in windows(str(file)))
    model = Scripted(*[LOOP] * count)
    pieces = list(transcribe_recording(model, file, LongFormOptions(CZECH)))  # type: ignore[arg-type]
    assert count > 2 and [asked[:2] for asked in model.asked] == [(count, 0.0), (count, 0.2)]
    assert all(piece.flags == ("retried",) for piece in pieces)


def test_silence_is_never_asked_and_doubt_is_flagged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(5 * SAMPLE_RATE), SAMPLE_RATE)
    model = Scripted()
    (piece,) = transcribe_recording(model, tmp_path / "silent.wav", LongFormOptions(CZECH))  # type: ignore[arg-type]
    assert piece.text == "" and piece.flags == ("silence",) and not model.asked
    doubtful = Scripted(*[Hypothesis("hm", [1], -1.4, no_speech=0.1)] * 6)
    (piece,) = transcribe_recording(doubtful, recording(tmp_path / "a.wav", 3), LongFormOptions(CZECH))  # type: ignore[arg-type]
    assert piece.flags == ("unsure",) and piece.text == "hm"
    assert [asked[1] for asked in doubtful.asked] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], "drawn again, as engines do"
    nothing = Scripted(Hypothesis("titulky", [1], -1.4, no_speech=0.9))
    (piece,) = transcribe_recording(nothing, tmp_path / "a.wav", LongFormOptions(CZECH))  # type: ignore[arg-type]
    assert piece.flags == ("no_speech",) and piece.text == ""


def test_a_window_left_early_is_heard_again_in_parts(tmp_path: Path) -> None:
    model = Scripted(
        Hypothesis("ano", [1], -0.1),
        Hypothesis("první polovina", [1, 2], -0.1),
        Hypothesis("druhá polovina", [3, 4], -0.1),
    )
    pieces = list(transcribe_recording(model, recording(tmp_path / "a.wav", 20), LongFormOptions(CZECH)))  # type: ignore[arg-type]
    assert " ".join(p.text for p in pieces).startswith("první polovina druhá polovina") and pieces[
        -1
    ].end == pytest.approx(20.0)
    pace = Pace()
    assert not pace.left_early("x" * 100, 10) and not pace.left_early("", 1) and pace.left_early("ano", 10)


def test_the_text_before_is_given_where_the_model_knows_it(tmp_path: Path) -> None:
    model = Scripted()
    list(transcribe_recording(model, recording(tmp_path / "a.wav", 70), LongFormOptions(CZECH, previous=True)))  # type: ignore[arg-type]
    assert model.asked[0][2] is None and all(asked[0] == 1 for asked in model.asked)
    assert model.asked[1][2] == [" " + SPOKEN]


def test_an_hour_is_never_in_memory_whole(tmp_path: Path) -> None:
    file = tmp_path / "long.flac"
    soundfile.write(file, speech(["sol"] * 300, 900), SAMPLE_RATE)
    spans, largest, last = 0, 0, 0.0
    for offset, samples, cuts in windows(str(file)):
        assert offset == pytest.approx(last) and cuts[0][0] == 0
        spans, largest, last = spans + len(cuts), max(largest, len(samples)), offset + len(samples) / SAMPLE_RATE
        assert all(14 <= (b - a) / SAMPLE_RATE <= 28.1 for a, b in cuts[:-1])
    assert last == pytest.approx(900, abs=0.01) and largest <= 8 * 28 * SAMPLE_RATE + 60 * SAMPLE_RATE
    assert spans > 900 / 28
    found = list(transcribe_with_samples(Scripted(), str(file), LongFormOptions(CZECH)))  # type: ignore[arg-type]
    assert sum(len(samples) for _, samples in found) == 900 * SAMPLE_RATE


def test_a_temperature_draws_the_same_every_time() -> None:
    model, clip = tiny(), said(TEXT)
    first, again = (model.transcribe([clip], ["en"], DecodeOptions(temperature=1.0))[0] for _ in range(2))
    assert first.tokens == again.tokens and first.no_speech is not None and 0 <= first.no_speech <= 1
    assert model.transcribe([clip], ["en"], DecodeOptions("speech"))[0].tokens != first.tokens
    told = model.transcribe([clip, clip], ["en", "en"], previous=["sol luna", None])
    plain = model.transcribe([clip], ["en"], DecodeOptions("speech"))[0]
    assert told[1].tokens == plain.tokens and told[0].mean_logprob != plain.mean_logprob
