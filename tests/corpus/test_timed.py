"""Timed text beside a recording: which file is its transcript, and what of it is used.

The names in brackets are rows of the table of faults of neighbouring tools that each case stands for.
"""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from govor.corpus.inventory import Statement, inventory
from govor.corpus.manifests import read_clips, read_rows
from govor.corpus.records import Clip, Segment
from govor.examples.features import Timestamps
from govor.examples.spec import ExampleSpec
from govor.families.whisper.labels import build_labels
from govor.families.whisper.tiny import tiny
from govor.runs import Workspace
from messy import voice

Run = Callable[..., CompletedProcess[str]]
SRT = "1\n00:00:00,100 --> 00:00:00,900\nano\n"


def recorded(folder: Path, name: str = "a.wav", seconds: float = 1.0, **beside: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    audio = folder / name
    soundfile.write(audio, voice(len(name), seconds), 16_000, format="WAV")
    for suffix, text in beside.items():
        audio.with_suffix(f".{suffix}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return audio


def row_of(folder: Path) -> dict:
    (row,) = inventory(Workspace(), [folder], Statement("cs"), "inline")
    return row


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param({"srt": ""}, id="O21 empty"),
        pytest.param({"vtt": "WEBVTT\n"}, id="O21 header alone"),
        pytest.param({"lrc": ""}, id="O20 empty"),
        pytest.param({"lrc": "[ti:x]\nprvi red"}, id="O20 no time"),
        pytest.param({"srt": "1\n00:00:05,000 --> 00:00:02,000\nx"}, id="O22"),
        pytest.param({"json": '{"segments": [{"start": 1}]}'}, id="JSON"),
        pytest.param({"srt": b"1\n00:00:00,000 --> 00:00:01,000\n\xff\xfe\xfd"}, id="no text"),
        pytest.param({"vtt": b"WEBVTT\0"}, id="NUL"),
    ],
)  # fmt: skip
def test_a_transcript_that_cannot_be_used_gives_way_with_a_note(tmp_path: Path, beside: dict) -> None:
    recorded(tmp_path / "t", txt="ano ne", **beside)
    row = row_of(tmp_path / "t")
    assert row["transcript"] == "ano ne" and row["error"] is None
    assert f"a.{next(iter(beside))}" in row["transcript_note"] and "a.txt was read" in row["transcript_note"]


def test_without_another_one_the_first_reason_stands(tmp_path: Path) -> None:
    recorded(tmp_path / "t", srt="1\n00:00:xx --> 00:00:02,000\nx", vtt="WEBVTT\n")
    assert "a.srt: line 2" in row_of(tmp_path / "t")["error"]


def test_a_json_about_something_else_is_no_transcript(tmp_path: Path) -> None:
    recorded(tmp_path / "t", json='{"bpm": 120, "events": [{"at": 1}]}', tsv="a\tb\n1\t2\n", txt="ano")
    row = row_of(tmp_path / "t")
    assert row["transcript"] == "ano" and row["transcript_note"] is None


@pytest.mark.parametrize(("audio", "text"), [("REC1.WAV", "REC1.TXT"), ("REC1.WAV", "REC1.SRT"), ("REC1.WAV", "rec1.srt"), ("rec1.wav", "rec1.wav.srt"), ("x.ogg", "x.ogg.TXT"), ("rec1.wav", "rec1.Srt"), ("x.Wav", "x.VTT"), ("x.wav", "x.textgrid"), ("x.wav", "x.TextGrid")])  # fmt: skip
def test_capitals_name_the_same_recording(tmp_path: Path, audio: str, text: str) -> None:
    grid = 'File type = "ooTextFile"\nObject class = "TextGrid"\n0 1 <exists> 1 "IntervalTier" "t" 0 1 1 0 1 "ano"'
    content = {".txt": "ano", ".srt": SRT, ".vtt": "WEBVTT\n\n" + SRT.replace(",", "."), ".textgrid": grid}
    recorded(tmp_path / "t", audio)
    (tmp_path / "t" / text).write_text(content[Path(text).suffix.lower()])
    assert row_of(tmp_path / "t")["transcript"] == "ano"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_believed(tmp_path: Path, encoding: str) -> None:
    recorded(tmp_path / "t", srt=SRT.replace("ano", "čšž").replace("\n", "\r\n").encode(encoding))
    (row,) = inventory(Workspace(), [tmp_path / "t"], Statement("cs", encoding="cp1250"), "inline")
    assert row["transcript"] == "čšž" and row["segments"][0]["end"] == 0.9


def test_speakers_words_and_ends_reach_the_manifest(tmp_path: Path, workspace: Path, govor: Run) -> None:
    said = [{"start": 0, "end": 0.4, "text": " da", "speaker": "SPEAKER_00", "words": [{"word": " da", "start": 0.1, "end": 0.3}]}, {"start": 0.5, "text": "ne", "speaker": "SPEAKER_01"}]  # fmt: skip
    recorded(Path("t"), "b.wav", json=json.dumps({"segments": said}))
    recorded(Path("t"), "lyrics.wav", lrc="[00:00.10]prvi\n[00:00.50]drugi\n")
    recorded(Path("t"), "fata.wav", txt="Fata: Zovem se Fata.")
    done = govor("inventory", "t", "--language", "bs", "--license", "own")
    rows = {row["filename"]: row for _, row in read_rows("manifests/dataset_inventory.jsonl")}
    segments = [{"start": 0.0, "end": 0.4, "text": "da", "speaker": "SPEAKER_00"}, {"start": 0.5, "end": 1.0, "text": "ne", "speaker": "SPEAKER_01"}]  # fmt: skip
    assert rows["b.wav"]["segments"] == segments and rows["b.wav"]["words"] == [
        {"word": "da", "start": 0.1, "end": 0.3}
    ]
    assert rows["b.wav"]["speaker"] is None, "SPEAKER_00 is somebody else in every file"
    assert rows["lyrics.wav"]["segments"][-1]["end"] == 1.0
    assert rows["fata.wav"]["transcript"] == "Zovem se Fata." and rows["fata.wav"]["speaker"] == "Fata"
    assert "speaker_prefix" in done.stderr and "1 Fata" in done.stderr
    govor("validate", "manifests/dataset_inventory.jsonl", "--near-duplicates", "off", expect=None)
    (kept,) = [clip for clip in read_clips("manifests/kept.jsonl") if clip.id.endswith("b")]
    assert [segment.speaker for segment in kept.segments] == [
        "SPEAKER_00",
        "SPEAKER_01",
    ] and "speaker_prefixes" not in kept.extra
    again = govor("inventory", "t", "--language", "bs", "--license", "own", "--resume")
    assert "1 Fata" in again.stderr
    assert {row["filename"]: row["speaker"] for _, row in read_rows("manifests/dataset_inventory.jsonl")}[
        "fata.wav"
    ] == "Fata"


def test_an_open_last_line_is_taught_closed_and_only_when_times_are_asked_for() -> None:
    clip = Clip("a", "a.wav", "a b", 3.0, "cs", segments=(Segment(0.0, 1.0, "a"), Segment(1.0, None, "b")))
    bound = Timestamps().bound
    assert not bound(clip) and bound(clip.replace(segments=(Segment(0.0, None, ""),)))
    tokens = tiny().tokens
    labels = build_labels(ExampleSpec(clip, "cs", with_timestamps=True), tokens)
    assert labels.tokens[-2:] == [tokens.first_timestamp + 150, tokens.end]
    both = clip.replace(segments=(Segment(0.0, 2.0, "a"), Segment(1.0, 1.5, "b")))
    times = [t - tokens.first_timestamp for t in build_labels(ExampleSpec(both, "cs", with_timestamps=True), tokens).tokens if t >= tokens.first_timestamp]  # fmt: skip
    assert times == sorted(times), "times never run back, though two speak at once"
