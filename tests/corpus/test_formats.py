"""What others write is read, what we write they read, and nothing is lost on the way."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from conftest import speech
from govor.audio import decode
from govor.corpus import transcripts
from govor.corpus.formats import FORMATS, export, read_source
from govor.corpus.formats.writing import to_nemo
from govor.corpus.inventory import Statement, inventory
from govor.corpus.manifests import read_clips, read_rows, write_clips, write_rows
from govor.corpus.records import Clip, Segment
from govor.errors import AudioError, GovorError
from govor.runs import Workspace
from messy import voice
from rows import row

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """A whole file with times, one with odd characters, a part of a file, and the bytes of a file inside a blob."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for number in range(4):
        pcm = np.round(voice(number, 2.0) * 32767).astype(np.int16)
        soundfile.write(folder / f"{number}.flac", pcm, 16_000)
    data = (folder / "3.flac").read_bytes()
    (folder / "all.blob").write_bytes(b"before" + data + b"after")
    extra = {"city": "Tuzla", "votes": 3, "tags": ["a", {"b": None}]}
    return [
        Clip("s/0", str(folder / "0.flac"), "prvo i drugo", 2.0, "bs", speaker="ana", license="CC0-1.0", split="train", extra=extra,
             segments=(Segment(0.0, 0.8, "prvo"), Segment(0.9, 2.0, "i drugo"))),
        Clip("s/1", str(folder / "1.flac"), 'rekao je "da", tab\tje', 2.0, "bs", source="tape", prev_transcript="ranije"),
        Clip("s/2", str(folder / "2.flac"), "deo", 0.5, "sr", offset=0.25),
        Clip("s/3", f"{folder / 'all.blob'}#6,{len(data)}", "u bloku", 2.0, "hr", quality_score=0.75),
    ]  # fmt: skip


def back(path: Path, blob: Path | None = None) -> tuple[list[Clip], list[dict[str, Any]]]:
    dropped: list[dict[str, Any]] = []
    return list(read_source(Workspace(), path, Statement(), dropped.append, blob)), dropped


TARGETS = {
    "govor": "out.jsonl",
    "inline": "out.jsonl",
    "nemo": "out.jsonl",
    "qwen3-asr": "out.jsonl",
    "lhotse": "cuts.jsonl",
    "audiofolder": "folder",
    "commonvoice": "folder",
    "paired": "folder",
    "parquet": "out.parquet",
}


@pytest.mark.parametrize("layout", TARGETS)
def test_what_is_exported_comes_back(layout: str, clips: list[Clip], tmp_path: Path) -> None:
    target = tmp_path / TARGETS[layout]
    assert export(clips, layout, target) == len(clips)
    read, dropped = back(target, tmp_path / "back.blob")
    assert not dropped
    by_id = {clip.id: clip for clip in read}
    assert set(by_id) == {clip.id for clip in clips}
    for clip in clips:
        found = by_id[clip.id]
        assert found.language == clip.language and found.segments == clip.segments
        assert " ".join(found.transcript.split()) == " ".join(clip.transcript.split())
        assert abs(found.duration - clip.duration) < 0.01
        for key in ("speaker", "license", "source", "prev_transcript", "quality_score"):
            assert getattr(found, key) == getattr(clip, key), key
        assert {k: v for k, v in found.extra.items() if k in clip.extra} == clip.extra
        here = decode(found.audio, found.offset or 0.0, found.duration if found.offset is not None else None)
        there = decode(clip.audio, clip.offset or 0.0, clip.duration if clip.offset is not None else None)
        assert len(here) == len(there) and np.abs(here - there).max() < 1e-4


def test_pairs_come_back_with_their_times(clips: list[Clip], tmp_path: Path) -> None:
    export(clips, "paired", tmp_path / "pairs")
    rows = list(inventory(Workspace(), [tmp_path / "pairs"], Statement("bs"), "inline"))
    assert sorted(row["transcript"] for row in rows) == sorted(" ".join(clip.transcript.split()) for clip in clips)
    (timed_row,) = (row for row in rows if row.get("segments"))
    assert [(s["start"], s["end"], s["text"]) for s in timed_row["segments"]] == [
        (0.0, 0.8, "prvo"),
        (0.9, 2.0, "i drugo"),
    ]
    assert timed_row["license"] == "CC0-1.0" and timed_row["speaker"] == "ana"


def test_every_layout_is_tested() -> None:
    assert set(FORMATS) == set(TARGETS)


def test_nemo_has_nemos_fields(clips: list[Clip], tmp_path: Path) -> None:
    export(clips, "nemo", tmp_path / "nemo.jsonl")
    for _, each in read_rows(tmp_path / "nemo.jsonl"):
        assert {"audio_filepath", "text", "duration", "lang"} <= set(each)
        assert not {"audio", "transcript", "language"} & set(each)
        assert Path(each["audio_filepath"]).is_file(), "NeMo opens files, no blobs"


def test_qwen_has_the_prefix_and_the_prompt_apart(clips: list[Clip], tmp_path: Path) -> None:
    export(clips, "qwen3-asr", tmp_path / "qwen.jsonl")
    rows = [row for _, row in read_rows(tmp_path / "qwen.jsonl")]
    assert rows[0]["text"] == "language Bosnian<asr_text>prvo i drugo" and rows[1]["prompt"] == "ranije"
    assert all("<|" not in row["text"] for row in rows)


def test_lhotse_loads_our_cuts(clips: list[Clip], tmp_path: Path) -> None:
    import lhotse

    export(clips, "lhotse", tmp_path / "cuts.jsonl")
    cuts = list(lhotse.CutSet.from_file(tmp_path / "cuts.jsonl"))
    assert len(cuts) == 4
    for cut in cuts:
        lhotse.validate(cut)
        assert cut.load_audio().shape == (1, round(cut.duration * cut.sampling_rate))
    assert [s.text for s in cuts[0].supervisions] == ["prvo", "i drugo"]
    assert cuts[0].custom["city"] == "Tuzla" and cuts[2].start == 0.25


def test_datasets_loads_our_parquet(clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    export(clips, "parquet", tmp_path / "out.parquet")
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out.parquet"), split="train", cache_dir=str(tmp_path / "c")
    )
    assert isinstance(loaded.features["audio"], datasets.Audio)
    rows = list(loaded.cast_column("audio", datasets.Audio(decode=False)))
    assert [row["transcript"] for row in rows] == [clip.transcript for clip in clips]
    assert rows[0]["audio"]["bytes"] == Path(clips[0].audio).read_bytes()


def test_common_voice_as_it_is_published(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "cv_1.mp3", voice(1), 16_000)
    header = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment"
    line = 'abc\tcv_1.mp3\tx9\tRekao je "da" i otišao.\t\t2\t0\ttwenties\t\t\t\tsr\t'
    (tmp_path / "validated.tsv").write_text(f"{header}\n{line}\n", encoding="utf-8")
    for source in (tmp_path, tmp_path / "validated.tsv"):
        (clip,) = read_source(Workspace(), source, Statement(license="CC0-1.0"), print)
        assert (clip.speaker, clip.language, clip.transcript) == ("abc", "sr", 'Rekao je "da" i otišao.')
        assert clip.extra["up_votes"] == "2" and clip.license == "CC0-1.0"


def test_audiofolder_below_train_and_test(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        soundfile.write(tmp_path / part / "a.wav", voice(1), 16_000)
        with (tmp_path / part / "metadata.csv").open("w", newline="") as handle:
            csv.writer(handle).writerows([["file_name", "transcription", "id"], ["a.wav", "ano, ne", part]])
    clips = list(read_source(Workspace(), tmp_path, Statement("cs"), print))
    assert {(clip.id, clip.split, clip.transcript) for clip in clips} == {
        ("train", "train", "ano, ne"),
        ("test", "test", "ano, ne"),
    }


def test_gzipped_lhotse_cuts_of_somebody_else(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "r.wav", voice(1, 3.0), 16_000)
    recording = {
        "id": "r",
        "sources": [{"type": "file", "channels": [0], "source": str(tmp_path / "r.wav")}],
        "sampling_rate": 16_000,
        "num_samples": 48_000,
        "duration": 3.0,
    }
    supervision = {
        "id": "s",
        "recording_id": "r",
        "start": 0.0,
        "duration": 1.0,
        "channel": 0,
        "text": "ano",
        "language": "cs",
        "speaker": "a",
    }
    cut = {
        "id": "c",
        "start": 1.0,
        "duration": 1.0,
        "channel": 0,
        "supervisions": [supervision],
        "recording": recording,
        "type": "MonoCut",
    }
    with gzip.open(tmp_path / "cuts.jsonl.gz", "wt") as handle:
        handle.write(json.dumps(cut) + "\n")
    (clip,) = read_source(Workspace(), tmp_path / "cuts.jsonl.gz", Statement(), print)
    assert (clip.offset, clip.duration, clip.transcript, clip.speaker) == (1.0, 1.0, "ano", "a")


def test_earlier_results_are_drafts_over_separated_vocals(tmp_path: Path) -> None:
    place = tmp_path / "outputs" / "song1"
    (place / "separated").mkdir(parents=True)
    soundfile.write(place / "separated" / "vocals.wav", voice(1), 16_000)
    soundfile.write(place / "separated" / "drums.wav", voice(2), 16_000)
    text = {
        "text": "la la",
        "language": "hr",
        "segments": [{"start": 0, "end": 0.5, "text": "la"}, {"start": 0.5, "end": 0.8, "text": "la"}],
    }
    (place / "transcription_base.json").write_text(json.dumps(text))
    (clip,) = read_source(Workspace(), tmp_path / "outputs", Statement(), print)
    assert clip.id == "song1" and clip.audio.endswith("vocals.wav") and clip.extra["draft"] is True
    assert len(clip.segments) == 2 and clip.transcript == "la la"


@pytest.mark.parametrize(
    ("suffix", "text", "segments"),
    [
        (".srt", "1\n00:00:01,500 --> 00:00:02,000\n<i>Dobar</i>\ndan\n\n2\n00:00:03,000 --> 00:00:04,250\nsvete\n", [(1.5, 2.0, "Dobar dan"), (3.0, 4.25, "svete")]),
        (".srt", "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\n42\r\n\r\n2\r\n00:00:03,000 --> 00:00:04,000\r\nkraj", [(1.0, 2.0, "42"), (3.0, 4.0, "kraj")]),
        (".vtt", "WEBVTT\n\n01:00.000 --> 01:02.500 align:start\nšta\n", [(60.0, 62.5, "šta")]),
        (".lrc", "[ti:Pjesma]\n[00:12.30]Prva <00:12.80>riječ\n[00:15.00][00:30.50]refren\n[00:20.00]\n", [(12.3, 15.0, "Prva riječ"), (15.0, 20.0, "refren"), (30.5, None, "refren")]),
        (".txt", "<|0.00|> prvo<|4.20|><|4.40|> drugo<|9.98|>", [(0.0, 4.2, "prvo"), (4.4, 9.98, "drugo")]),
        (".txt", "<|0.00|> prvo<|4.20|><|29.50|>", [(0.0, 4.2, "prvo"), (29.5, None, "")]),
        (".txt", "<|0.00|> a<|2.00|> b<|4.00|>", [(0.0, 2.0, "a"), (2.0, 4.0, "b")]),
        (".txt", "bez vremena", []),
        (".json", '{"segments": [{"start": 0, "end": 1, "text": " a ", "speaker": 7}]}', [(0.0, 1.0, "a")]),
    ],
)  # fmt: skip
def test_timed_transcripts(suffix: str, text: str, segments: list[tuple[float, float | None, str]]) -> None:
    transcript = transcripts.read(text.lstrip("\ufeff"), suffix)
    plain, found = transcript.text, transcript.segments
    assert [(s.start, s.end, s.text) for s in found] == segments
    assert "<|" not in plain and (plain == transcripts.plain(found) or not found)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".srt", "no times at all"), (".json", "{"), (".json", '{"segments": 3}'), (".json", '[{"start": 2, "end": 1, "text": "x"}]'), (".json", '[{"start": -1, "text": "x"}]'), (".txt", "<|5.00|> a<|2.00|>")],
)  # fmt: skip
def test_bad_timed_transcripts_have_a_reason(suffix: str, text: str) -> None:
    with pytest.raises(AudioError) as error:
        transcripts.read(text, suffix)
    assert error.value.rule == "bad_transcript"


words = st.text(st.sampled_from("abčשм"), min_size=1, max_size=6)


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(1, 100), words), max_size=6), st.booleans())
def test_inline_times_come_back(spans: list[tuple[int, int, str]], cut: bool) -> None:
    segments, at = [], 0
    for gap, length, word in spans:
        start = at + gap
        at = start + length
        segments.append(Segment(start / 50, at / 50, word))
    if cut and segments:
        segments.append(Segment((at + 1) / 50, None, ""))
    assert transcripts.from_inline(transcripts.to_inline(segments))[1] == tuple(segments)
    written = transcripts.to_srt([s for s in segments if s.text])
    assert transcripts.read(written, ".srt").segments == tuple(s for s in segments if s.text)


def test_times_are_written_from_integers() -> None:
    assert transcripts.to_srt([Segment(59.9996, 3599.9999, "x")]).splitlines()[1] == "00:01:00,000 --> 01:00:00,000"
    assert transcripts.to_lrc([Segment(59.999, None, "x")]).startswith("[01:00.00]")


def test_the_command_turns_one_into_the_other(clips: list[Clip], workspace: Path, govor: Run) -> None:
    write_clips(workspace / "mine.jsonl", clips)
    govor("manifest", "mine.jsonl", "--to", "parquet")
    govor("manifest", "manifests/mine.parquet", "--out", "manifests/back.jsonl")
    found = {clip.id: clip for clip in read_clips(workspace / "manifests" / "back.jsonl")}
    assert set(found) == {clip.id for clip in clips} and "#" in found["s/0"].audio
    failed = govor("manifest", "mine.jsonl", "--to", "nothing", expect=2)
    assert "Traceback" not in failed.stderr


def test_a_parquet_without_audio_says_so(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(GovorError, match="No audio column"):
        list(read_source(Workspace(), tmp_path / "x.parquet", Statement("cs"), print, tmp_path / "b"))
    (tmp_path / "y.parquet").write_text("no parquet")
    with pytest.raises(GovorError, match="not a readable parquet"):
        list(read_source(Workspace(), tmp_path / "y.parquet", Statement("cs"), print, tmp_path / "b"))


@pytest.mark.parametrize("layout", ["paired", "audiofolder", "commonvoice"])
def test_exports_keep_clips_apart_whose_ids_look_alike_as_file_names(tmp_path: Path, layout: str) -> None:
    clips = []
    for number, name in enumerate(("กิน", "กุน", "a b", "a_b", "x" * 400, "x" * 399 + "y")):
        soundfile.write(tmp_path / f"{number}.wav", voice(number), 16_000)
        clips.append(Clip(name, str(tmp_path / f"{number}.wav"), f"{number}", 0.8, "th"))
    export(clips, layout, tmp_path / "out")
    back = {clip.id: clip for clip in read_source(Workspace(), tmp_path / "out", Statement("th"), print)}
    assert len(back) == 6
    for clip in clips:
        assert Path(back[clip.id].audio).read_bytes() == Path(clip.audio).read_bytes()


def test_another_parquet_of_that_name_does_not_replace_the_blob(workspace: Path, govor: Run) -> None:
    for number in (1, 2):
        Path(f"p{number}").mkdir()
        soundfile.write(f"p{number}/a.wav", voice(number), 16_000)
        write_clips(Path(f"p{number}/m.jsonl"), [Clip("a", f"p{number}/a.wav", "ano", 0.8, "cs", license="own")])
        govor("manifest", f"p{number}/m.jsonl", "--to", "parquet", "--out", f"p{number}/foo.parquet")
    govor("manifest", "p1/foo.parquet")
    before = Path("manifests/foo.blob").read_bytes()
    for layout in ("paired", "nemo", "qwen3-asr", "lhotse"):
        govor("manifest", "p2/foo.parquet", "--to", layout)
        (clip,) = read_source(
            Workspace(),
            Path("manifests/foo.paired") if layout == "paired" else Path(f"manifests/foo.{layout}.jsonl"),
            Statement("cs"),
            print,
        )
        assert Path(clip.audio).read_bytes() == Path("p2/a.wav").read_bytes()
    assert Path("manifests/foo.blob").read_bytes() == before == Path("p1/a.wav").read_bytes()


def test_a_bad_row_among_good_ones_is_dropped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1), 16_000)
    good = row("a", str(tmp_path / "a.wav"))
    bad = [{**good, "id": "b", "speaker": ["x"]}, {**good, "id": "c", "audio": ""}, {**good, "id": "d", "words": 3}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [good, *bad]))
    dropped: list[dict] = []
    assert len(list(read_source(Workspace(), tmp_path / "m.jsonl", Statement(), dropped.append))) == 1
    assert [item["rule"] for item in dropped] == ["malformed_row"] * 3


def test_other_layouts_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "a.wav", speech(["sol"], seconds=1.0), 16_000)
    write_rows(
        tmp_path / "nemo.jsonl",
        [{"audio_filepath": "a.wav", "text": "sol", "duration": 1.0, "lang": "cs", "mood": "calm"}],
    )
    (tmp_path / "metadata.csv").write_text("file_name,transcription,speaker\na.wav,sol,anna\n")
    dropped: list[Any] = []
    (nemo,) = read_source(Workspace(), tmp_path / "nemo.jsonl", Statement(), dropped.append)
    assert (nemo.audio, nemo.transcript, nemo.language, nemo.extra) == (
        "a.wav",
        "sol",
        "cs",
        {"mood": "calm"},
    )
    assert to_nemo(nemo)["audio_filepath"] == "a.wav" and to_nemo(nemo)["mood"] == "calm"
    (csv,) = read_source(Workspace(), tmp_path, Statement("cs", "CC0-1.0"), dropped.append)
    assert (csv.speaker, csv.license, csv.duration) == ("anna", "CC0-1.0", 1.0)
    assert dropped == []
    with pytest.raises(GovorError, match="--language"):
        list(read_source(Workspace(), tmp_path, Statement(), dropped.append))
