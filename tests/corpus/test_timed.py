"""What stands beside a recording: which file is its transcript, what of it reaches the manifest, what is passed over.

The names in brackets are rows of the table of faults of neighbouring tools that each case stands for.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from govor.corpus.cells import from_cell, to_cell
from govor.corpus.formats import read_source
from govor.corpus.inventory import Statement, inventory
from govor.corpus.manifests import read_clips, read_rows
from govor.corpus.records import Clip, Segment
from govor.corpus.slicing import Rejected, Slice, plan_slices
from govor.examples.features import Timestamps
from govor.examples.spec import ExampleSpec
from govor.families.whisper.labels import build_labels
from govor.families.whisper.tiny import tiny
from govor.runs import Workspace
from messy import voice

Run = Callable[..., CompletedProcess[str]]
SRT = "1\n00:00:00,100 --> 00:00:00,900\nano\n"


def recording(folder: Path, name: str = "a.wav", seconds: float = 1.0, **beside: str | bytes) -> Path:
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
    recording(tmp_path / "t", txt="ano ne", **beside)
    row = row_of(tmp_path / "t")
    assert row["transcript"] == "ano ne" and row["error"] is None
    assert f"a.{next(iter(beside))}" in row["transcript_note"] and "a.txt was read" in row["transcript_note"]


def test_without_another_one_the_first_reason_stands(tmp_path: Path) -> None:
    recording(tmp_path / "t", srt="1\n00:00:xx --> 00:00:02,000\nx", vtt="WEBVTT\n")
    assert "a.srt: line 2" in row_of(tmp_path / "t")["error"]


def test_a_json_about_something_else_is_no_transcript(tmp_path: Path) -> None:
    recording(tmp_path / "t", json='{"bpm": 120, "events": [{"at": 1}]}', tsv="a\tb\n1\t2\n", txt="ano")
    row = row_of(tmp_path / "t")
    assert row["transcript"] == "ano" and row["transcript_note"] is None


@pytest.mark.parametrize(("audio", "text"), [("REC1.WAV", "REC1.TXT"), ("REC1.WAV", "REC1.SRT"), ("REC1.WAV", "rec1.srt"), ("rec1.wav", "rec1.wav.srt"), ("x.ogg", "x.ogg.TXT"), ("rec1.wav", "rec1.Srt"), ("x.Wav", "x.VTT"), ("x.wav", "x.textgrid"), ("x.wav", "x.TextGrid")])  # fmt: skip
def test_capitals_name_the_same_recording(tmp_path: Path, audio: str, text: str) -> None:
    grid = 'File type = "ooTextFile"\nObject class = "TextGrid"\n0 1 <exists> 1 "IntervalTier" "t" 0 1 1 0 1 "ano"'
    content = {".txt": "ano", ".srt": SRT, ".vtt": "WEBVTT\n\n" + SRT.replace(",", "."), ".textgrid": grid}
    recording(tmp_path / "t", audio)
    (tmp_path / "t" / text).write_text(content[Path(text).suffix.lower()])
    assert row_of(tmp_path / "t")["transcript"] == "ano"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_believed(tmp_path: Path, encoding: str) -> None:
    recording(tmp_path / "t", srt=SRT.replace("ano", "čšž").replace("\n", "\r\n").encode(encoding))
    (row,) = inventory(Workspace(), [tmp_path / "t"], Statement("cs", encoding="cp1250"), "inline")
    assert row["transcript"] == "čšž" and row["segments"][0]["end"] == 0.9


def test_speakers_words_and_ends_reach_the_manifest(tmp_path: Path, workspace: Path, govor: Run) -> None:
    said = [{"start": 0, "end": 0.4, "text": " da", "speaker": "SPEAKER_00", "words": [{"word": " da", "start": 0.1, "end": 0.3}]}, {"start": 0.5, "text": "ne", "speaker": "SPEAKER_01"}]  # fmt: skip
    recording(Path("t"), "b.wav", json=json.dumps({"segments": said}))
    recording(Path("t"), "lyrics.wav", lrc="[00:00.10]prvi\n[00:00.50]drugi\n")
    recording(Path("t"), "fata.wav", txt="Fata: Zovem se Fata.")
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


def test_a_manifest_of_a_folder_says_what_an_inventory_says(workspace: Path, govor: Run) -> None:
    """[A4, O14]"""
    recording(Path("d"), "a.wav", txt="Fata: Dobar dan.\nMujo: Dobro.\n")
    Path("d/zapis.docx").write_text("x")
    said = govor("manifest", "d", "--language", "bs").stderr
    assert "1 Fata, 1 Mujo" in said and "1 .docx" in said


def test_what_is_passed_over_is_counted(workspace: Path, govor: Run) -> None:
    recording(Path("t"), txt="ano")
    for name in ("one.dss", "two.dss", "text.docx", "notes.md", ".hidden.ra"):
        Path("t", name).write_bytes(b"x")
    done = govor("inventory", "t", "--language", "cs", "--json")
    assert json.loads(done.stdout)["passed_over"] == {".dss": 2, ".docx": 1} and "2 .dss" in done.stderr
    Path("t/a.wav").unlink()
    assert "2 .dss" in govor("inventory", "t", "--overwrite", expect=2).stderr


@pytest.mark.parametrize(("name", "container", "codec", "rate"), [("a.mka", "matroska", "pcm_s16le", 16_000), ("b.mov", "mov", "pcm_s16le", 16_000), ("c.caf", "caf", "pcm_s16le", 16_000), ("d.m4b", "ipod", "aac", 16_000), ("e.wma", "asf", "wmav2", 44_100), ("f.mkv", "matroska", "pcm_s16le", 16_000)])  # fmt: skip
def test_other_containers_are_recordings(tmp_path: Path, name: str, container: str, codec: str, rate: int) -> None:
    av = pytest.importorskip("av")
    folder = tmp_path / "t"
    folder.mkdir()
    with av.open(str(folder / name), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        samples = (voice(1, 1.5) * 32767).astype("<i2").reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 16_000
        for part in av.AudioResampler(stream.format, "mono", rate, frame_size=1024).resample(frame):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    (folder / name).with_suffix(".txt").write_text("ano")
    row = row_of(folder)
    assert row["error"] is None and abs(row["duration"] - 1.5) < 0.3 and row["transcript"] == "ano"


@pytest.mark.parametrize(
    "text", ["=1+1", "+a", "-a", "@a", "\ta", "'n", "a\x1b[31mb\\x", "plain", " =x", "\u202ea", "x\udcffy"]
)
def test_cells_run_nothing_and_come_back(text: str) -> None:
    cell = to_cell(text)
    assert from_cell(cell) == text and not cell.lstrip().startswith(("=", "+", "-", "@")) and "\x1b" not in cell
    assert (cell == text) == (text == "plain") and to_cell(-0.5) == -0.5


def test_names_that_a_spreadsheet_would_run_are_marked_and_found_again(workspace: Path, govor: Run) -> None:
    names = ["=cmd.wav", "-a.wav", "\x1b[31mred.wav", "'quoted.wav"]
    for name in names:
        recording(Path(), name, txt="=ano")
    govor("inventory", ".", "--language", "cs", "--license", "own")
    raw = Path("manifests/dataset_inventory.csv").read_bytes()
    assert b"\x1b" not in raw and b",=" not in raw and b"\n=" not in raw and b",-a" not in raw
    with Path("manifests/dataset_inventory.csv").open(newline="") as handle:
        assert {from_cell(row["filename"]) for row in csv.DictReader(handle)} == {*names}
    found = list(
        read_source(
            Workspace(), Path("manifests/dataset_inventory.csv"), Statement("cs"), lambda row: pytest.fail(str(row))
        )
    )
    assert {Path(clip.audio).name for clip in found} == {*names} and {clip.transcript for clip in found} == {"=ano"}


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
    recording(Path("t"), "long.wav", 40.0, json=json.dumps({"segments": said}))
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
        recording(Path("t"), name, 20.0, json=json.dumps(rows))
    govor("inventory", "t", "--language", "sr", "--license", "own")
    govor("validate", "manifests/dataset_inventory.jsonl", "--near-duplicates", "off")
    govor("preprocess", "manifests/kept.jsonl", "--name", "p", "--vad", "energy", expect=1)
    ((_, row),) = read_rows("manifests/p.dropped.jsonl")
    assert row["rule"] == "text_too_long" and row["measured"] > 500 and "прва" in row["row"]["transcript"]
    assert [clip.transcript for clip in read_clips("manifests/p.jsonl")] == ["да остатак приче"]


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
