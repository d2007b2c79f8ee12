"""Long recordings are cut at pauses; nothing is said twice, nothing is lost, times and durations are exact."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from containers import RATE, sound
from govor.corpus.loudness import loudness_lufs, to_loudness
from govor.corpus.manifests import read_clips, write_clips
from govor.corpus.preprocess import PreprocessSettings, preprocess, safe_name
from govor.corpus.records import Clip, Segment
from govor.corpus.slicing import Rejected, Slice, plan_slices
from govor.corpus.split import SplitSettings, split
from govor.corpus.transcripts import plain
from govor.corpus.vad import Vad
from govor.runs import Workspace
from messy import voice
from rows import lines, row

Run = Callable[..., CompletedProcess[str]]


def recording(spans: list[tuple[float, float]], total: float, seed: int = 0) -> np.ndarray:
    """Sound where somebody speaks, near silence elsewhere."""
    samples = np.random.default_rng(seed).normal(0, 0.0005, int(total * RATE)).astype(np.float32)
    for number, (start, end) in enumerate(spans):
        sound = voice(100 * seed + number, end - start)
        samples[int(start * RATE) : int(start * RATE) + len(sound)] += sound
    return samples


def talk(count: int, each: float, gap: float) -> tuple[list[tuple[float, float]], float]:
    spans = [(0.3 + number * (each + gap), 0.3 + number * (each + gap) + each) for number in range(count)]
    return spans, spans[-1][1] + 0.5


def run(clip: Clip, folder: Path, **values: object) -> tuple[list[Clip], list[dict]]:
    clips, dropped = [], []
    for result in preprocess(Workspace(), [clip], folder, PreprocessSettings(**values), Vad("energy"), "inline"):  # type: ignore[arg-type]
        clips += result.clips
        dropped += result.dropped
    return clips, dropped


def test_a_long_recording_becomes_slices(tmp_path: Path) -> None:
    spans, total = talk(20, 4.0, 0.7)
    soundfile.write(tmp_path / "talk.flac", recording(spans, total), RATE)
    segments = tuple(Segment(start, end, f"rečenica {n}") for n, (start, end) in enumerate(spans))
    clip = Clip(
        "talk", str(tmp_path / "talk.flac"), plain(segments), total, "sr", segments=segments, speaker="a", license="own"
    )
    clips, dropped = run(clip, tmp_path / "out")
    assert not dropped and len(clips) == 4
    assert " ".join(c.transcript for c in clips) == clip.transcript, "said once, in order, and all of it"
    for before, after in zip([None, *clips], clips, strict=False):
        info = soundfile.info(after.audio)
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
        assert after.duration == info.frames / RATE <= 30.0
        assert after.prev_transcript == (before.transcript if before else None)
        assert after.prev_segments == (before.segments if before else ()), "with its times, for labels that have times"
        assert after.source == "talk" and after.speaker == "a" and after.license == "own"
        for segment in after.segments:
            assert abs(segment.start * 50 - round(segment.start * 50)) < 1e-6 and segment.end <= after.duration
            number = int(segment.text.split()[1])
            assert abs(after.seek_time + segment.start - spans[number][0]) < 0.02
            heard = soundfile.read(after.audio)[0][int(segment.start * RATE) : int(segment.end * RATE)]
            assert np.sqrt(np.square(heard).mean()) > 0.05
    ends = [c.seek_time + c.duration for c in clips]
    assert all(end <= c.seek_time + 1e-3 for end, c in zip(ends, clips[1:], strict=False)), "no sound is in two slices"


def test_an_untimed_long_recording_waits_for_times(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", recording([(0, 35)], 36), RATE)
    clips, dropped = run(Clip("a", str(tmp_path / "a.wav"), "mnogo", 36.0, "sr"), tmp_path / "out")
    assert not clips and [row["rule"] for row in dropped] == ["untimed"] and dropped[0]["row"]["id"] == "a"


def test_speech_that_nobody_wrote_down_is_in_no_slice(tmp_path: Path) -> None:
    spans = [(0.5, 8.0), (9.0, 14.0), (15.0, 22.0), (23.0, 33.0)]
    soundfile.write(tmp_path / "a.wav", recording(spans, 34), RATE)
    segments = tuple(Segment(start, end, f"r{n}") for n, (start, end) in enumerate(spans) if n != 1)
    clips, _ = run(Clip("a", str(tmp_path / "a.wav"), plain(segments), 34.0, "sr", segments=segments), tmp_path / "out")
    assert [clip.transcript for clip in clips] == ["r0", "r2 r3"]
    assert clips[0].seek_time + clips[0].duration < 9.0 and clips[1].seek_time > 14.0


def test_a_segment_longer_than_a_slice_is_listed(tmp_path: Path) -> None:
    segments = (Segment(0.0, 5.0, "a"), Segment(6.0, 40.0, "predugo"), Segment(41.0, 44.0, "b"))
    soundfile.write(tmp_path / "a.wav", recording([(0, 5), (6, 40), (41, 44)], 45), RATE)
    clips, dropped = run(
        Clip("a", str(tmp_path / "a.wav"), plain(segments), 45.0, "sr", segments=segments), tmp_path / "out"
    )
    assert [clip.transcript for clip in clips] == ["a", "b"] and clips[1].prev_transcript is None
    assert [(row["rule"], row["row"]["transcript"]) for row in dropped] == [("segment_too_long", "predugo")]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_any_input_becomes_16_khz_mono_16_bit(tmp_path: Path, suffix: str, rate: int) -> None:
    stereo = np.stack([voice(1, 1.5, rate)] * 2, axis=1)
    soundfile.write(tmp_path / f"a{suffix}", stereo, rate)
    seconds = soundfile.info(tmp_path / f"a{suffix}").duration
    (clip,), dropped = run(Clip("a", str(tmp_path / f"a{suffix}"), "ano", seconds, "cs"), tmp_path / "out")
    info = soundfile.info(clip.audio)
    assert not dropped and (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
    assert clip.duration == info.frames / RATE


def test_silence_goes_and_times_move_with_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", recording([(2.0, 4.0)], 7.0), RATE)
    clip = Clip("a", str(tmp_path / "a.wav"), "ano", 7.0, "cs", segments=(Segment(2.0, 4.0, "ano"),))
    (trimmed,), _ = run(clip, tmp_path / "out", trim_silence=True)
    assert 2.0 < trimmed.duration < 2.8
    assert abs(trimmed.seek_time + trimmed.segments[0].start - 2.0) < 0.02
    assert trimmed.duration == soundfile.info(trimmed.audio).frames / RATE


def test_loudness_is_what_the_standard_says() -> None:
    clock = np.arange(5 * RATE) / RATE
    # ITU-R BS.1770: a 997 Hz sine at full scale in one channel measures -3.01 LUFS.
    assert abs(loudness_lufs(np.sin(2 * np.pi * 997 * clock).astype(np.float32)) + 3.01) < 0.05
    quiet = (0.01 * np.sin(2 * np.pi * 500 * clock)).astype(np.float32)
    assert abs(loudness_lufs(to_loudness(quiet, -23.0)) + 23.0) < 0.1
    padded = np.concatenate([quiet, np.zeros(10 * RATE, np.float32)])
    assert abs(loudness_lufs(padded) - loudness_lufs(quiet)) < 0.3, "silence is gated"
    assert loudness_lufs(np.zeros(RATE, np.float32)) == -np.inf
    assert np.abs(to_loudness(quiet, -5.0)).max() <= 0.9


gaps = st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.1, 34.0)), min_size=1, max_size=30)


@settings(max_examples=200)
@given(gaps, st.floats(5, 30))
def test_plans_keep_every_segment_once_and_in_bounds(parts: list[tuple[float, float]], most: float) -> None:
    segments, at = [], 0.0
    for number, (gap, length) in enumerate(parts):
        segments.append(Segment(at + gap, at + gap + length, str(number)))
        at += gap + length
    total = at + 0.5
    planned = plan_slices(segments, total, most, lambda a, b: 0.0, lambda a, b: (a + b) / 2)
    assert [s.text for piece in planned for s in piece.segments] == [s.text for s in segments]
    for piece in planned:
        if isinstance(piece, Rejected):
            assert piece.end - piece.start > most - 1e-6
        else:
            assert piece.start >= 0 and piece.end <= total + 1e-6 and piece.end - piece.start <= most + 1e-6
            assert all(piece.start - 1e-6 <= s.start and s.end <= piece.end + 1e-6 for s in piece.segments)
    slices = [piece for piece in planned if isinstance(piece, Slice)]
    assert all(a.end <= b.start + 1e-6 for a, b in pairwise(slices))


def test_two_at_once_stay_together() -> None:
    segments = [Segment(0, 20, "a"), Segment(18, 25, "b"), Segment(26, 32, "c")]
    planned = plan_slices(segments, 33, 30, lambda a, b: 0.0, lambda a, b: (a + b) / 2)
    assert [[s.text for s in piece.segments] for piece in planned] == [["a", "b"], ["c"]]


def test_names_stay_in_their_folder_and_apart() -> None:
    names = ["a/b", "../../etc/passwd", "/abs", "a b", "a_b", "..", "", "שלום/1", "x" * 300, "con:1"]
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(names)
    assert all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in safe)
    assert safe_name("a/b") == "a/b"


def test_the_command_resumes_and_refuses_other_settings(workspace: Path, govor: Run) -> None:
    spans, total = talk(12, 4.0, 0.7)
    soundfile.write("talk.wav", recording(spans, total), RATE)
    segments = tuple(Segment(start, end, f"r{n}") for n, (start, end) in enumerate(spans))
    write_clips(
        Path("m.jsonl"), [Clip("talk", "talk.wav", plain(segments), total, "sr", segments=segments, license="own")]
    )
    govor("preprocess", "m.jsonl", "--name", "mine", "--vad", "energy")
    first = {clip.id: Path(clip.audio).stat().st_mtime_ns for clip in read_clips("manifests/mine.jsonl")}
    Path(next(iter(read_clips("manifests/mine.jsonl"))).audio).unlink()
    govor("preprocess", "m.jsonl", "--name", "mine", "--vad", "energy", "--resume")
    again = {clip.id: Path(clip.audio).stat().st_mtime_ns for clip in read_clips("manifests/mine.jsonl")}
    assert first.keys() == again.keys() and sum(first[name] != again[name] for name in first) == 1
    assert "already exists" in govor("preprocess", "m.jsonl", "--name", "mine", expect=2).stderr
    other = govor(
        "preprocess", "m.jsonl", "--name", "mine", "--vad", "energy", "--resume", "--loudness", "-23", expect=2
    )
    assert "other settings" in other.stderr


def test_parts_of_a_recording_keep_their_source_through_preprocessing(workspace: Path, govor: Run) -> None:
    rows = []
    for tape in range(4):
        soundfile.write(f"t{tape}.wav", np.concatenate([voice(10 * tape + n, 2.0) for n in range(6)]), 16_000)
        rows += [
            row(
                f"{tape}-{n}",
                f"t{tape}.wav",
                offset=2.0 * n,
                duration=2.0,
                transcript=f"věta {'abcd'[tape]}{'efghij'[n]}",
            )
            for n in range(6)
        ]
    lines("m.jsonl", *rows)
    govor("preprocess", "m.jsonl", "--name", "p", "--vad", "energy")
    clips = list(read_clips("manifests/p.jsonl"))
    assert {clip.source for clip in clips} == {f"t{n}.wav" for n in range(4)} and clips[1].seek_time == 2.0
    proof = split(clips, SplitSettings()).proof
    assert proof["groups"] == 4


def call(seconds: float = 20.0) -> tuple[np.ndarray, list[tuple[float, float, int]]]:
    """Two voices on two channels, by turns: samples [n, 2], and who speaks when."""
    voices = [sound(seconds, seed=seed) for seed in (1, 2)]
    turns = [(2.0 * number, 2.0 * number + 2.0, number % 2) for number in range(int(seconds / 2))]
    samples = np.random.default_rng(0).normal(0, 0.0005, (len(voices[0]), 2)).astype(np.float32)
    for start, end, side in turns:
        span = slice(int(start * RATE), int(end * RATE))
        samples[span, side] += voices[side][span]
    return samples, turns


def made(clip: Clip, folder: Path, **values: object) -> tuple[list[Clip], list[dict]]:
    results = list(preprocess(Workspace(), [clip], folder, PreprocessSettings(**values), Vad("energy"), "inline"))  # type: ignore[arg-type]
    return [clip for result in results for clip in result.clips], [row for result in results for row in result.dropped]


@pytest.mark.parametrize("seconds", [20.0, 50.0])
def test_a_call_is_split_into_its_voices(tmp_path: Path, seconds: float) -> None:
    samples, turns = call(seconds)
    path = tmp_path / "call.flac"
    soundfile.write(path, samples, RATE)
    segments = tuple(Segment(start, end, f"{'ab'[side]}{int(start)}") for start, end, side in turns)
    text = " ".join(segment.text for segment in segments)
    clip = Clip("call", str(path), text, seconds, "en", segments=segments, license="own")
    clips, dropped = made(clip, tmp_path / "split", channels="split")
    assert not dropped
    for letter, name in (("a", "left"), ("b", "right")):
        own = [one for one in clips if one.extra["channel"] == name]
        assert " ".join(one.transcript for one in own) == " ".join(word for word in text.split() if word[0] == letter)
        assert all(one.source == "call" and one.id.startswith(f"call@{name}") for one in own)
    if seconds < 30:
        left, _ = soundfile.read(clips[0].audio, dtype="float32")
        np.testing.assert_allclose(left, samples[:, 0], atol=1e-3)
    only, _ = made(clip, tmp_path / "left", channels="left")
    assert " ".join(one.transcript for one in only) == " ".join(word for word in text.split() if word[0] == "a")
    mixed, _ = made(clip, tmp_path / "mix")
    assert " ".join(one.transcript for one in mixed) == text


def test_words_without_times_are_not_dealt_to_voices(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, call()[0], RATE)
    clip = Clip("call", str(path), "some words of both", 20.0, "en")
    clips, (dropped,) = made(clip, tmp_path / "split", channels="split")
    assert not clips and dropped["rule"] == "untimed" and "govor align" in dropped["message"]
    stereo = sound(5.0)
    soundfile.write(tmp_path / "scene.wav", np.stack([stereo, 0.7 * stereo], axis=1), RATE)
    scene = clip.replace(audio=str(tmp_path / "scene.wav"), duration=5.0)
    assert [one.id for one in made(scene, tmp_path / "scene", channels="split")[0]] == ["call"]


def test_what_exceeds_full_scale_is_brought_back_and_not_cut_off(tmp_path: Path) -> None:
    samples = sound(3.0) / np.abs(sound(3.0)).max() * 1.5
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    ((clip,), _) = made(Clip("a", str(tmp_path / "a.wav"), "words", 3.0, "en"), tmp_path / "out")
    written, _ = soundfile.read(clip.audio, dtype="float32")
    np.testing.assert_allclose(written, samples / 1.5, atol=1e-4)
