"""Alignment and long recordings, on made-up attention and a tiny model; the real figures are in tests/test_real.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from conftest import Silent, speech
from govor.audio import SAMPLE_RATE
from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError
from govor.families.base import Aligner, Attention, Hypothesis
from govor.families.task import DecodeOptions
from govor.families.whisper.attention import all_heads
from govor.families.whisper.model import Whisper
from govor.families.whisper.tiny import tiny
from govor.runs import Workspace
from govor.timing.align import AlignmentHeads, align, align_by_attention, align_by_length
from govor.timing.any_length import align_any, alignment_heads
from govor.timing.heads import measure_heads, store_heads, stored_heads
from govor.timing.longform import LongFormOptions, Pace, loop_at, transcribe_recording, transcribe_with_samples, windows
from govor.timing.recordings import Window, align_recording, share
from govor.timing.splice import splices

TEXT = "sol luna mar pan"
CZECH = DecodeOptions("speech", language="cs")


class Following:
    """A recogniser whose attention follows the words of made-up speech (0.3 s each), and writes down what is there."""

    name = "following"
    longest_seconds = 30.0
    heads = ((0, 0), (0, 1))

    def __init__(self, late_frames: int = 0) -> None:
        self.late = late_frames

    def attend(
        self, clips: Sequence[Any], pieces: Sequence[Sequence[str]], *_: Any, **__: Any
    ) -> list[Attention | None]:
        found: list[Attention | None] = []
        for samples, parts in zip(clips, pieces, strict=True):
            frames = int(np.ceil(len(samples) / SAMPLE_RATE / 0.02))
            loud = np.abs(samples[: len(samples) // 320 * 320]).reshape(-1, 320).max(axis=1) > 0.05
            starts = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int)])) == 1)
            weights = np.full((2, len(parts), frames), 1e-4, np.float32)
            for token in range(len(parts)):
                at = starts[min(token, len(starts) - 1)] + self.late
                weights[0, token, at : at + 12] = 1 / 12
                weights[1, token] = 1 / frames  # a head that follows nothing
            found.append(
                Attention(weights, 0.02, tuple(range(len(parts))), np.full(len(parts), -0.1, np.float32), self.heads)
            )
        return found

    def transcribe(self, clips: Sequence[Any], *_: Any, **__: Any) -> list[Hypothesis]:
        return [Hypothesis(TEXT, [1, 2, 3, 4], -0.1) for _ in clips]


def said(words: str, before: float = 0.5) -> np.ndarray:
    quiet = np.zeros(int(before * SAMPLE_RATE), np.float32)
    return np.concatenate([quiet, speech(words.split()), quiet])


def test_words_lie_where_they_are_heard() -> None:
    (found,) = align(Following(), [said(TEXT)], [TEXT], ["en"])
    assert found.method == "cross-attention" and found.refused is None
    starts = [word.start for word in found.words]
    assert starts == pytest.approx([0.5, 0.8, 1.1, 1.4], abs=0.06)
    assert [word.end for word in found.words] == pytest.approx([0.75, 1.05, 1.35, 1.65], abs=0.06)
    assert all(word.confidence == pytest.approx(0.905, abs=1e-3) for word in found.words)


def test_late_heads_are_put_right() -> None:
    (found,) = align(Following(late_frames=6), [said(TEXT)], [TEXT], ["en"], heads=AlignmentHeads(((0, 0),), 0.12))
    assert [word.start for word in found.words] == pytest.approx([0.5, 0.8, 1.1, 1.4], abs=0.06)


def test_what_cannot_be_aligned_says_why() -> None:
    samples = said(TEXT)[:SAMPLE_RATE]
    words = " ".join(["sol"] * 500)
    (found,) = align(Following(), [samples], [words], ["en"])
    assert "500 tokens cannot be said in 1.00 s" in str(found.refused)
    assert all(word.start is None for word in found.words) and len(found.words) == 500
    (real,) = align(tiny(), [samples], [words], ["en"])
    assert "more than the model writes" in str(real.refused)
    (empty,) = align(Following(), [samples], [""], ["en"])
    assert empty.words == () and empty.refused is None
    assert align_by_attention(samples, ["a"], None).refused


def test_a_family_without_an_aligner_is_approximate_and_says_so() -> None:
    (found,) = align(object(), [said("sol luna")], ["sol luna"], ["en"])
    assert found.method == "proportional" and found.words[0].start == pytest.approx(0.5, abs=0.05)
    assert found.words[-1].end == pytest.approx(1.1, abs=0.1)
    assert align_by_length(np.zeros(16_000, np.float32), ["a"]).refused == "nothing is audible"


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


@pytest.mark.parametrize(
    ("tokens", "at"),
    [
        ([1, 2, 3] * 6, 3),
        ([9, 8, 7, *[5] * 14], 4),
        ([1, 2, 3, 1, 2, 3], None),
        ([4, 4, 4, 4], None),
        (list(range(50)), None),
        ([], None),
    ],
)
def test_loops_are_seen_and_emphasis_is_not(tokens: list[int], at: int | None) -> None:
    assert loop_at(tokens) == at


SPOKEN = " ".join(["tady něco je řečeno"] * 20)


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


def test_silence_is_never_asked_and_doubt_is_flagged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(5 * SAMPLE_RATE), SAMPLE_RATE)
    model = Scripted()
    (piece,) = transcribe_recording(model, tmp_path / "silent.wav", LongFormOptions(CZECH))  # type: ignore[arg-type]
    assert piece.text == "" and piece.flags == ("silence",) and not model.asked
    doubtful = Scripted(Hypothesis("hm", [1], -1.4, no_speech=0.1))
    (piece,) = transcribe_recording(doubtful, recording(tmp_path / "a.wav", 3), LongFormOptions(CZECH))  # type: ignore[arg-type]
    assert piece.flags == ("unsure",) and piece.text == "hm"
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


def test_streamed_audio_is_decoded_audio(tmp_path: Path) -> None:
    from govor.audio import decode, stream

    wave = speech(["sol", "mar"] * 120, 75, rate=44_100)
    soundfile.write(tmp_path / "a.flac", np.column_stack([wave, wave]), 44_100)
    whole, parts = decode(tmp_path / "a.flac"), np.concatenate(list(stream(tmp_path / "a.flac")))
    assert abs(len(whole) - len(parts)) <= 1
    np.testing.assert_allclose(whole[: len(parts)], parts[: len(whole)], atol=2e-4)
    with pytest.raises(AudioError, match="not found"):
        list(stream(tmp_path / "none.wav"))
    (tmp_path / "bad.wav").write_bytes(b"RIFF....WAVE")
    with pytest.raises(AudioError, match="not audio that can be read"):
        list(stream(tmp_path / "bad.wav"))


def test_a_row_that_lies_about_its_length_is_refused(workspace: Path) -> None:
    recording(workspace / "a.wav", 3)
    with pytest.raises(AudioError, match=r"its manifest says 9\.00 s"):
        align_any(Following(), Clip("a", "a.wav", TEXT, 9.0, "en"), "speech", None)
    found, seconds = align_any(Following(), Clip("a", "a.wav", TEXT, 9.0, "en"), "speech", None, check=False)
    assert seconds == pytest.approx(3.0) and len(found.words) == 4


def test_a_temperature_draws_the_same_every_time() -> None:
    model, clip = tiny(), said(TEXT)
    first, again = (model.transcribe([clip], ["en"], DecodeOptions(temperature=1.0))[0] for _ in range(2))
    assert first.tokens == again.tokens and first.no_speech is not None and 0 <= first.no_speech <= 1
    assert model.transcribe([clip], ["en"], DecodeOptions("speech"))[0].tokens != first.tokens
    told = model.transcribe([clip, clip], ["en", "en"], previous=["sol luna", None])
    plain = model.transcribe([clip], ["en"], DecodeOptions("speech"))[0]
    assert told[1].tokens == plain.tokens and told[0].mean_logprob != plain.mean_logprob
