"""Where a long recording is cut: nothing that was said is lost, and no slice holds more than anybody says."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import soundfile

from govor.corpus.manifests import read_clips, read_rows
from govor.corpus.records import Segment
from govor.corpus.slicing import Rejected, Slice, plan_slices
from messy import voice

Run = Callable[..., CompletedProcess[str]]


def recorded(folder: Path, name: str = "a.wav", seconds: float = 1.0, **beside: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    audio = folder / name
    soundfile.write(audio, voice(len(name), seconds), 16_000, format="WAV")
    for suffix, text in beside.items():
        audio.with_suffix(f".{suffix}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return audio


def plan(*segments: Segment, total: float = 60.0) -> list[Slice | Rejected]:
    return plan_slices(segments, total, 30.0, lambda a, b: 0.0, lambda a, b: (a + b) / 2)


def test_more_text_than_anybody_says_is_in_no_slice() -> None:
    found = plan(Segment(0, 4, "a" * 40), Segment(5, 6, "x" * 239), Segment(7, 9, "b" * 30))
    assert [(type(p).__name__, getattr(p, "rule", None)) for p in found] == [("Slice", None), ("Rejected", "text_too_long"), ("Slice", None)]  # fmt: skip
    assert all("x" not in s.text for p in found if isinstance(p, Slice) for s in p.segments)
    edges = [(p.start, p.end) for p in found if isinstance(p, Slice)]
    assert edges[0][1] <= 5.0 and edges[1][0] >= 6.0, "its sound is in no slice either"


def test_a_segment_without_length_opens_no_slice() -> None:
    assert [p.rule for p in plan(Segment(3, 3, "da")) if isinstance(p, Rejected)] == ["segment_without_length"]
    (one,) = plan(Segment(1, 2, "a"), Segment(2, 2, "da"), Segment(2, 3, "b"))
    assert isinstance(one, Slice) and [s.text for s in one.segments] == ["a", "da", "b"]


def test_slices_keep_and_drop_all_that_was_said(workspace: Path, govor: Run) -> None:
    cues = [(0, 10, "prvi red"), (12, 12, "bez trajanja"), (20, 21, "x" * 239), (25, 35, "drugi red")]
    said = [{"start": a, "end": b, "text": t, "speaker": "Fata"} for a, b, t in cues]
    recorded(Path("t"), "long.wav", 40.0, json=json.dumps({"segments": said}))
    govor("inventory", "t", "--language", "sr", "--license", "own")
    govor("validate", "manifests/dataset_inventory.jsonl")
    govor("preprocess", "manifests/kept.jsonl", "--name", "p", "--vad", "energy", expect=None)
    kept = list(read_clips("manifests/p.jsonl"))
    dropped = [row for _, row in read_rows("manifests/p.dropped.jsonl")]
    every = [s.text for clip in kept for s in clip.segments] + [
        s["text"] for row in dropped for s in row["row"]["segments"]
    ]
    assert sorted(every) == sorted(text for *_, text in cues)
    assert "text_too_long" in {row["rule"] for row in dropped} and all(
        row["limit"] and row["message"] for row in dropped
    )
    assert {s.speaker for clip in kept for s in clip.segments} == {"Fata"}


def test_a_short_recording_with_words_that_take_no_time_is_dropped(workspace: Path, govor: Run) -> None:
    """[F4] It is never sliced, and as a whole it holds no more text than anybody says."""
    for name, said in (("a.wav", "прва реченица " * 20), ("bb.wav", "да")):
        rows = [{"start": 0, "end": 0, "text": said}, {"start": 0, "end": 19, "text": "остатак приче"}]
        recorded(Path("t"), name, 20.0, json=json.dumps(rows))
    govor("inventory", "t", "--language", "sr", "--license", "own")
    govor("validate", "manifests/dataset_inventory.jsonl", "--near-duplicates", "off")
    govor("preprocess", "manifests/kept.jsonl", "--name", "p", "--vad", "energy", expect=1)
    ((_, row),) = read_rows("manifests/p.dropped.jsonl")
    assert row["rule"] == "text_too_long" and row["measured"] > 500 and "прва" in row["row"]["transcript"]
    assert [clip.transcript for clip in read_clips("manifests/p.jsonl")] == ["да остатак приче"]
