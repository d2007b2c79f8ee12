"""Tables, JSON and manifests of others are read without silent loss. The marks in brackets name the faults mended here."""

from __future__ import annotations

import datetime
import decimal
import json
import random
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from govor.corpus.formats import FORMATS, export, read_source
from govor.corpus.inventory import Statement, inventory
from govor.corpus.manifests import read_clips, read_rows, write_rows
from govor.corpus.preprocess import PreprocessSettings, preprocess
from govor.corpus.records import Clip, Segment
from govor.corpus.small import Small
from govor.corpus.vad import Vad
from govor.corpus.validate import Checks, Limits, validate
from govor.errors import GovorError
from govor.runs import Workspace
from messy import voice

Run = Callable[..., CompletedProcess[str]]
Dropped = list[dict[str, Any]]


@pytest.fixture
def wavs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with 0.wav, 1.wav and 2.wav of 2 s each, and long.wav of 8 s."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", voice(number, 2.0), 16_000)
    soundfile.write(tmp_path / "long.wav", voice(9, 8.0), 16_000)
    return tmp_path


def read(source: Path, statement: Statement | None = None, **more: Any) -> tuple[list[Clip], Dropped]:
    dropped: Dropped = []
    clips = list(read_source(Workspace(), source, statement or Statement("sr"), dropped.append, **more))
    return clips, dropped


def table(folder: Path, text: str, name: str = "metadata.csv", encoding: str = "utf-8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def jsonl(folder: Path, *rows: Any, name: str = "m.jsonl") -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


# ── CSV and TSV ──


def test_a_comma_in_a_transcript_is_no_end_of_it(wavs: Path) -> None:
    """[P17]"""
    clips, dropped = read(table(wavs, "file_name,transcription\n0.wav,Da, naravno\n1.wav,ne\n"))
    assert [clip.transcript for clip in clips] == ["ne"]
    (row,) = dropped
    assert row["rule"] == "malformed_row" and "3 cells where the table has 2 columns" in row["message"]
    assert row["row"]["more_cells"] == [" naravno"]


@pytest.mark.parametrize(
    ("text", "name", "kept", "rules"),
    [
        ("file_name,transcription,speaker\n0.wav,da\n1.wav,ne,ana\n", "a.csv", ["ne"], ["malformed_row"]),
        ("file_name,transcription\n0.wav,\"Da,\nnaravno\"\n1.wav,ne\n", "a.csv", ["Da,\nnaravno", "ne"], []),
        ("file_name,transcription\n0.wav,da\rne\n1.wav,ne\n", "a.csv", ["ne"], ["malformed_row"]),
        ("file_name,transcription\r\n0.wav,da\r\n\r\n1.wav,ne\r\n", "a.csv", ["da", "ne"], []),
        ("file_name,transcription\r0.wav,da\r1.wav,ne\r", "a.csv", ["da", "ne"], []),
        ("file_name, transcription\n0.wav, da\n1.wav,\"ne\" ne\n", "a.csv", [" da"], ["malformed_row"]),
        ("path\tsentence\n0.wav\tRekao je \"da\".\n1.wav\t\"Da\"\n", "a.tsv", ['Rekao je "da".', '"Da"'], []),
        ("path\tsentence\n0.wav\t\"\"\"Da\"\", reče.\"\n1.wav\tu 5\" cevi\n", "a.tsv", ['"Da", reče.', 'u 5" cevi'], []),
        ("\"path\"\t\"sentence\"\n\"0.wav\"\t\"Da\tne\"\n\"1.wav\"\t\"ne\"\n", "a.tsv", ["Da\tne", "ne"], []),
        ("path\tsentence\n0.wav\tDa\tne\n1.wav\tne\n", "a.tsv", ["ne"], ["malformed_row"]),
        ("path\tsentence\n0.wav\t\"Da\nne\"\n1.wav\tne\n", "a.tsv", ['"Da', "ne"], ["malformed_row"]),
    ],
)  # fmt: skip
def test_every_row_is_kept_or_listed(wavs: Path, text: str, name: str, kept: list[str], rules: list[str]) -> None:
    """[P17, O6]"""
    clips, dropped = read(table(wavs, text, name))
    assert [clip.transcript for clip in clips] == kept
    assert [row["rule"] for row in dropped] == rules


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file_name;transcription\n0.wav;da\n", r"separated by a comma.*'file_name;transcription'.*a semicolon, ';'"),
        ("id,words\n0,da\n", r"no audio column.*'id', 'words'; one named audio, audio_filepath"),
        ("file_name,words\n0.wav,da\n", r"no transcript column.*'file_name', 'words'"),
        ("file_name,text,text\n0.wav,da,ne\n", "the column 'text' stands twice"),
        ('file_name,text\n0.wav,"da\n1.wav,ne\n', r":2: a quote is opened here"),
        ("", "no audio column"),
    ],
)
def test_a_table_that_cannot_be_told_apart_is_refused_with_its_columns(wavs: Path, text: str, said: str) -> None:
    """[P20]"""
    with pytest.raises(GovorError, match=said):
        read(table(wavs, text))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
@pytest.mark.parametrize("encoding", ["cp1250", "utf-16-le", "utf-16", "utf-8-sig"])
def test_the_encoding_is_used_for_tables_too(wavs: Path, suffix: str, encoding: str) -> None:
    """[O28]"""
    rows = {
        ".csv": "file_name,transcription\n0.wav,čašćenje\n",
        ".tsv": "path\tsentence\n0.wav\tčašćenje\n",
        ".jsonl": '{"audio": "0.wav", "text": "čašćenje"}\n',
        ".json": '[\n{"audio": "0.wav",\n "text": "čašćenje"}]',
    }
    path = table(wavs, rows[suffix], f"a{suffix}", encoding)
    stated = None if encoding in ("utf-16", "utf-8-sig") else encoding  # those two begin with a mark
    clips, dropped = read(path, Statement("sr", encoding=stated))
    assert [clip.transcript for clip in clips] == ["čašćenje"] and not dropped
    if encoding == "cp1250":
        with pytest.raises(GovorError, match=r"not UTF-8 text.*--encoding"):
            read(path)
        with pytest.raises(GovorError, match="no text encoding"):
            read(path, Statement("sr", encoding="cp12500"))


def test_carriage_returns_come_back_from_a_table(wavs: Path) -> None:
    """[O6]"""
    clip = Clip("x", str(wavs / "0.wav"), "a\rb\nc", 2.0, "sr", extra={"note": "d\re"})
    export([clip], "audiofolder", wavs / "folder")
    (back,), dropped = read(wavs / "folder", Statement())
    assert back.transcript == clip.transcript and back.extra["note"] == "d\re" and not dropped


# ── what a row says ──


@pytest.mark.parametrize("column", ["language", "lang", "locale"])
@pytest.mark.parametrize("stated", ["bosanski", "qqqq"])
def test_the_stated_language_wins_over_every_column(wavs: Path, column: str, stated: str) -> None:
    """[A1]"""
    path = table(wavs, f"file_name,transcription,{column},speaker_id\n0.wav,da,{stated},ana\n")
    (clip,), _ = read(path, Statement("bs", speaker="mia", license="own"))
    assert (clip.language, clip.speaker, clip.license) == ("bs", "mia", "own")
    assert column not in clip.extra


def test_a_row_says_its_language_by_any_name(wavs: Path) -> None:
    """[A2]"""
    rows = [
        {"audio": f"{n}.wav", "text": "da", "lang": name} for n, name in enumerate(["bosanski", "bos", "klingeski"])
    ]
    clips, dropped = read(jsonl(wavs, *rows), Statement())
    assert [clip.language for clip in clips] == ["bs", "bs"]
    assert dropped[0]["rule"] == "language_unknown" and "'klingeski' is no language" in dropped[0]["message"]
    _, dropped = read(jsonl(wavs, *rows[:1], {"audio": "1.wav", "text": "da", "language": ["sr"]}), Statement())
    assert dropped[0]["rule"] == "malformed_row" and "'language' must be text, found a list" in dropped[0]["message"]


def test_parts_of_one_file_without_ids_are_told_apart(wavs: Path) -> None:
    """[P22]"""
    (wavs / "long.flac").write_bytes(b"")
    rows = [
        {"audio_filepath": "long.wav", "offset": 0, "duration": 2, "text": "a"},
        {"audio_filepath": "long.wav", "offset": 3, "duration": 2, "text": "b"},
        {"audio_filepath": "0.wav", "duration": 2, "text": "c"},
        {"audio_filepath": "long.flac", "offset": 3, "duration": 2, "text": "another file of that name"},
        {"audio_filepath": "long.wav", "offset": 3, "duration": 2, "text": "the same part again"},
    ]
    clips, dropped = read(jsonl(wavs, *rows))
    assert [clip.id for clip in clips] == ["long-0.000", "long-3.000", "0", "long.flac-3.000"]
    assert [row["rule"] for row in dropped] == ["duplicate_id"] and "no id" in dropped[0]["message"]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"text": ["a", "b"]}, "malformed_row"),
        ({"text": {"sr": "a"}}, "malformed_row"),
        ({"text": False}, "malformed_row"),
        ({"text": 1.5}, "malformed_row"),
        ({"audio": ["0.wav", "1.wav"]}, "malformed_row"),
        ({"audio": 7}, "malformed_row"),
        ({"id": {"a": 1}}, "malformed_row"),
        ({"id": True}, "malformed_row"),
        ({"speaker": ["ana"]}, "malformed_row"),
        ({"words": "[{"}, "malformed_row"),
        ({"license": ["MIT"]}, "malformed_row"),
        ({"duration": True}, "malformed_row"),
        ({"duration": "2,5"}, "malformed_row"),
        ({"duration": 10**400}, "malformed_row"),
        ({"offset": -1}, "malformed_row"),
        ({"offset": "x"}, "malformed_row"),
        ({"segments": 3}, "bad_transcript"),
        ({"prev_transcript": ["x"]}, "malformed_row"),
        ({"govor_extra": "text"}, "malformed_row"),
        ({"text": None}, "no_transcript"),
        ({"text": "  "}, "empty_transcript"),
        ({"text": "a\ud800"}, "bad_transcript"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_value_of_the_wrong_kind_is_listed(wavs: Path, row: dict[str, Any], rule: str, first: bool) -> None:
    """[O8, O29] wherever the row stands."""
    bad = json.dumps({"audio": "0.wav", "text": "da", "duration": 2.0, **row})
    good = {"audio": "1.wav", "text": "ne", "duration": 2.0}
    clips, dropped = read(jsonl(wavs, *((bad, good) if first else (good, bad))))
    assert [clip.transcript for clip in clips] == ["ne"]
    assert [row["rule"] for row in dropped] == [rule] and dropped[0]["message"]
    json.dumps(dropped)


def test_whole_numbers_are_good_names(wavs: Path) -> None:
    (clip,), _ = read(jsonl(wavs, {"id": 0, "audio": "0.wav", "text": 42, "speaker": 7.0}))
    assert (clip.id, clip.transcript, clip.speaker) == ("0", "42", "7")


@pytest.mark.parametrize(
    "line",
    ['{"audio": "0.wav", "text": "a", "text": "b"}', '{"audio": "0.wav", "n": NaN}', '{"n": 1e999}', "[1, 2]", "7", "{", '"x"', "[" * 5000, "1" * 5000],
)  # fmt: skip
def test_a_broken_line_of_json_is_listed(wavs: Path, line: str) -> None:
    clips, dropped = read(jsonl(wavs, {"audio": "1.wav", "text": "ne"}, line))
    assert len(clips) == 1 and [row["rule"] for row in dropped] == ["malformed_row"]
    assert "m.jsonl:2" in dropped[0]["message"]


def test_a_list_of_rows_is_a_table(wavs: Path) -> None:
    rows = [{"audio": "0.wav", "text": "da"}, 5, {"audio": "1.wav", "text": "ne"}]
    for indent in (None, 2):
        (wavs / "a.json").write_text(json.dumps(rows, indent=indent))
        clips, dropped = read(wavs / "a.json")
        assert [clip.transcript for clip in clips] == ["da", "ne"] and len(dropped) == 1
    (wavs / "a.json").write_text(json.dumps(rows[0], indent=2))
    assert len(read(wavs / "a.json")[0]) == 1
    (wavs / "a.json").write_text(json.dumps({"clips": rows}, indent=2))
    with pytest.raises(GovorError, match="a list of rows was wanted, found one object with 'clips'"):
        read(wavs / "a.json")


def test_what_every_row_lacks_refuses_the_table(wavs: Path) -> None:
    path = jsonl(wavs, {"sound": "0.wav", "text": "da"}, {"sound": "1.wav", "text": "ne"})
    with pytest.raises(GovorError, match=r"m.jsonl:1: no audio path.*found sound, text"):
        read(path)


def test_keys_of_the_inventory_mean_something_else_elsewhere(wavs: Path) -> None:
    """[O7]"""
    own = {"error": 0.12, "filename": "x", "stamp": 3, "duplicate": True, "size_bytes": 5, "language_guess": "da"}
    path = jsonl(wavs, {"audio": "0.wav", "text": "da", "duration": 2.0, **own})
    (clip,), dropped = read(path)
    assert not dropped and {key: clip.extra[key] for key in own} == own
    kept, turned_away = validated([clip.to_row()])
    assert not turned_away and {key: kept[0].extra[key] for key in own} == own
    (wavs / "3.wav").write_bytes(b"no sound")
    rows = [{**row, "transcript": "da"} for row in inventory(Workspace(), [wavs], Statement("sr"), "inline")]
    write_rows(wavs / "inventory.jsonl", rows)
    clips, dropped = read(wavs / "inventory.jsonl")
    assert [row["rule"] for row in dropped] == ["unreadable"] and not set(own) & set(clips[0].extra)


def validated(rows: list[dict[str, Any]], **limits: Any) -> tuple[list[Clip], Dropped]:
    kept: list[Clip] = []
    dropped: Dropped = []
    chosen = Limits.model_validate({"near_duplicates": "off", **limits})
    *_, report = validate(Workspace(), rows, Checks(chosen), kept.append, dropped.append, engine_name="inline")
    assert report.kept + sum(report.dropped.values()) == report.inventory == len(rows)
    return kept, dropped


def test_a_manifest_that_means_a_part_says_so(wavs: Path) -> None:
    """[P23]"""
    row = {"id": "x", "audio": "long.wav", "duration": 2.0, "transcript": "da", "language": "sr"}
    _, dropped = validated([row])
    assert dropped[0]["rule"] == "duration_mismatch" and (dropped[0]["measured"], dropped[0]["limit"]) == (8.0, 2.0)
    kept, dropped = validated([{**row, "offset": 0}, {**row, "id": "y", "duration": 7.95}])
    assert [clip.duration for clip in kept] == [2.0, 8.0] and not dropped


def test_recordings_begin_at_one_second_and_slices_at_half_a_one(wavs: Path) -> None:
    """[C6]"""
    soundfile.write(wavs / "short.wav", voice(1, 0.7), 16_000)
    short = Clip("short", "short.wav", "da", 0.7, "sr")
    part = Clip("part", "long.wav", "da", 0.7, "sr", offset=1.0)
    sliced = short.replace(id="sliced", seek_time=3.0)
    tiny = part.replace(id="tiny", duration=0.4)

    def ids(**values: float) -> tuple[list[str], list[float]]:
        chosen = PreprocessSettings.model_validate(values)
        results = list(
            preprocess(Workspace(), [short, part, sliced, tiny], wavs / "out", chosen, Vad("energy"), "inline")
        )
        return [c.id for r in results for c in r.clips], [row["limit"] for r in results for row in r.dropped]

    assert ids() == (["part", "sliced"], [1.0, 0.5])
    assert ids(min_source_seconds=0.5) == (["short", "part", "sliced"], [0.5])


def test_a_text_before_that_is_none_is_not_given(wavs: Path) -> None:
    """[F11]"""
    row = {
        "id": "x",
        "audio": "0.wav",
        "duration": 2.0,
        "language": "he",
        "transcript": "כן",
        "prev_transcript": "<|0.00|> לא<|1.00|>",
    }
    for has, text in (
        (False, None),
        ("False", None),
        ("FALSE", None),
        (0, None),
        ("no", None),
        (True, "לא"),
        (1, "לא"),
    ):
        clip = Clip.from_row({**row, "has_prev": has, "prev_transcript": "לא"}, "x")
        assert clip.prev_transcript == text and clip.extra["has_prev"] == has
        (read_clip,), _ = read(jsonl(wavs, {**row, "has_prev": has}), Statement())
        assert read_clip.prev_transcript == text and bool(read_clip.prev_segments) == (text is not None)


def test_reading_our_own_output_changes_nothing(wavs: Path) -> None:
    """[O9, O10]"""
    rows = [
        {"audio": "0.wav", "text": "da", "source": "kneset", "entry_id": "e1", "seek": 3.0, "speaker": "ana", "speaker_id": "s1", "client_id": "c", "lang": "bos", "locale": "bs-BA"},
        {"audio": "1.wav", "transcription": "ne", "sentence": "NE", "lang": "hr", "entry_id": 5, "error": "x", "type": "a"},
    ]  # fmt: skip
    clips, dropped = read(jsonl(wavs, *rows), Statement())
    assert not dropped and clips[0].source == "kneset/e1" and clips[1].source == "5"
    assert (clips[0].extra["speaker_id"], clips[0].extra["client_id"], clips[0].extra["locale"]) == ("s1", "c", "bs-BA")
    assert clips[1].extra["sentence"] == "NE"
    for time in range(3):
        export(clips, "govor", wavs / f"own{time}.jsonl")
        again, dropped = read(wavs / f"own{time}.jsonl", Statement())
        assert again == clips and not dropped
        clips = again


ALIKE = {"text": "DRUGI TEKST [SIROVO]", "lang": "xx", "transcription": "t", "sentence": "s", "speaker_id": "i", "client_id": "c", "locale": "l", "audio_filepath": "a", "file_name": "f", "path": "p", "prompt": "p", "error": 1, "seek": 9, "entry_id": "e", "uuid": "u", "metadata": {"text": "m"}, "type": "MonoCut", "recording": 1, "supervisions": 2, "tags": ["a", {"b": None}], "n": 2**70}  # fmt: skip


@pytest.mark.parametrize("layout", [name for name in FORMATS if name not in ("govor", "inline")])
def test_own_fields_win_over_keys_of_the_same_name(layout: str, wavs: Path) -> None:
    """[O2, O10]"""
    clip = Clip(
        "x/1",
        str(wavs / "0.wav"),
        "prva rečenica",
        2.0,
        "bs",
        speaker="ana",
        source="s",
        license="MIT",
        split="train",
        extra=ALIKE,
    )
    target = wavs / {"parquet": "o.parquet", "lhotse": "cuts.jsonl"}.get(
        layout, "o.jsonl" if layout in ("nemo", "qwen3-asr") else "o"
    )
    export([clip, clip.replace(id="x/2", speaker=None, source=None)], layout, target)
    clips, dropped = read(target, Statement(), blob=wavs / "back.blob")
    assert not dropped
    for found, wanted in zip(clips, (clip, clip.replace(id="x/2", speaker=None, source=None)), strict=True):
        assert {**found.own_row(), "audio": ""} == {**wanted.own_row(), "audio": ""}
        assert dict(found.extra) == ALIKE


def test_the_command_keeps_the_transcript_of_a_table_with_two_texts(wavs: Path, workspace: Path, govor: Run) -> None:
    """[O2]"""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"audio": {"bytes": (wavs / "0.wav").read_bytes(), "path": "0.wav"}, "text": "PRVA [SIROVO]", "transcript": "prva", "language": "bos", "lang": "hr"}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), workspace / "both.parquet")
    govor("manifest", "both.parquet", "--license", "CC0-1.0")
    govor("manifest", "manifests/both.jsonl", "--to", "nemo", "--absolute")
    ((_, row),) = read_rows(workspace / "manifests" / "both.nemo.jsonl")
    assert (row["text"], row["lang"], row["govor_extra"]) == ("prva", "bs", {"text": "PRVA [SIROVO]", "lang": "hr"})
    assert Path(row["audio_filepath"]).is_absolute() and Path(row["audio_filepath"]).is_file()


# ── folders ──


def pairs(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        soundfile.write(folder / f"{name}.wav", voice(number, 1.0), 16_000)
        (folder / f"{name}.txt").write_text(f"rekao {name}")


def test_a_table_deep_below_does_not_hide_the_pairs_above(tmp_path: Path) -> None:
    """[P21]"""
    pairs(tmp_path / "mix", "a", "b", "c")
    pairs(tmp_path / "mix" / "backup", "x")
    table(tmp_path / "mix" / "backup", "file_name,transcription\nx.wav,iz tabele\n")
    clips, dropped = read(tmp_path / "mix")
    assert sorted(clip.transcript for clip in clips) == ["iz tabele", "rekao a", "rekao b", "rekao c"]
    assert not dropped and all(clip.split is None for clip in clips), "backup is no part of a split"


def test_recordings_that_no_row_names_are_counted_and_named(tmp_path: Path) -> None:
    """[P21]"""
    pairs(tmp_path / "set", "a", "b", "c")
    table(tmp_path / "set", "file_name,transcription\na.wav,da\n./missing.wav,ne\n")
    said: list[str] = []
    clips, dropped = read(tmp_path / "set", notice=said.append)
    assert len(clips) == 1 and len(said) == 1 and said[0].startswith("2 recordings below")
    assert "b.wav" in said[0] and "c.wav" in said[0]
    assert sorted(row["rule"] for row in dropped) == ["missing", "named_by_no_row", "named_by_no_row"]
    said.clear()
    clips, dropped = read(tmp_path / "set" / "metadata.csv", notice=said.append)
    assert len(clips) == 1 and [row["rule"] for row in dropped] == ["missing"]
    assert len(said) == 1 and said[0].startswith("2 recordings beside") and "b.wav" in said[0]


def test_clips_that_common_voice_left_out_are_said_and_not_dropped(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        soundfile.write(tmp_path / "clips" / f"{name}.wav", voice(1, 1.0), 16_000)
    table(tmp_path, "client_id\tpath\tsentence\tlocale\nx\ta.wav\tda\tsr\n", "validated.tsv")
    said: list[str] = []
    clips, dropped = read(tmp_path, notice=said.append)
    assert len(clips) == 1 and not dropped and "1 recordings" in said[0] and "b.wav" in said[0]


def test_parquet_below_does_not_hide_pairs_and_shards_of_one_name_stay_apart(tmp_path: Path) -> None:
    source = tmp_path / "set"
    pairs(source, "a")
    sound = (source / "a.wav").read_bytes()
    for part in ("train", "test"):
        clip = Clip("same", str(source / "a.wav"), part, 1.0, "sr")
        (source / part).mkdir()
        export([clip], "parquet", source / part / "0000.parquet")
        import pyarrow.parquet as pq

        pq.write_table(
            pq.read_table(source / part / "0000.parquet").drop_columns(["id"]), source / part / "0000.parquet"
        )
    clips, dropped = read(source, blob=tmp_path / "x.blob")
    assert sorted(clip.transcript for clip in clips) == ["rekao a", "test", "train"] and not dropped
    assert len({clip.id for clip in clips}) == 3 and sound


def test_a_split_never_leaves_the_folder(wavs: Path) -> None:
    export([Clip("x", str(wavs / "0.wav"), "da", 2.0, "sr", split="../../out")], "audiofolder", wavs / "a" / "b")
    assert not (wavs / "out").exists() and not (wavs.parent / "out").exists()
    (clip,), _ = read(wavs / "a" / "b", Statement())
    assert clip.split == "../../out"


# ── lhotse ──


def cut(wavs: Path, **more: Any) -> dict[str, Any]:
    recording = {"id": "r", "sources": [{"type": "file", "channels": [0], "source": str(wavs / "long.wav")}], "sampling_rate": 16_000, "num_samples": 128_000, "duration": 8.0}  # fmt: skip
    return {"id": "c", "start": 0.0, "duration": 8.0, "channel": 0, "supervisions": [said(0.0, 8.0, "sve")], "recording": recording, "type": "MonoCut", **more}  # fmt: skip


def said(start: float, end: float, text: str, **more: Any) -> dict[str, Any]:
    return {
        "id": text,
        "recording_id": "r",
        "start": start,
        "duration": end - start,
        "channel": 0,
        "text": text,
        **more,
    }


@pytest.mark.parametrize(
    ("supervisions", "segments"),
    [
        ([said(0.0, 8.0, "sve")], ()),
        ([said(1.0, 3.0, "deo")], (Segment(1.0, 3.0, "deo"),)),
        ([said(1.0, 3.0, "a"), said(3.5, 8.02, "b")], (Segment(1.0, 3.0, "a"), Segment(3.5, 8.0, "b"))),
    ],
)
def test_supervisions_keep_their_times(wavs: Path, supervisions: list[Any], segments: tuple[Segment, ...]) -> None:
    """[O12]"""
    (clip,), dropped = read(jsonl(wavs, cut(wavs, supervisions=supervisions)))
    assert clip.segments == segments and not dropped and clip.offset is None


TRANSFORM = [{"name": "Speed", "kwargs": {"factor": 0.9}}]


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"start": 2.0, "duration": 4.0, "supervisions": [said(-1.0, 5.0, "a")]}, "outside_cut"),
        ({"start": 2.0, "duration": 4.0, "supervisions": [said(-1, 1, "a"), said(1.5, 3.5, "b")]}, "outside_cut"),
        ({"type": "MixedCut", "tracks": []}, "mixed_cut"),
        ({"type": "PaddingCut"}, "mixed_cut"),
        ({"recording": None, "features": {"type": "fbank"}}, "unreadable"),
        ({"supervisions": 3}, "malformed_row"),
        ({"supervisions": [{"text": "x"}]}, "malformed_row"),
        ({"supervisions": [said(0, 8, "x") | {"text": 7}]}, "malformed_row"),
        ({"channel": [0, 1]}, None),
        ({"duration": None}, "malformed_row"),
    ],
)
def test_cuts_that_cannot_be_read_right_are_listed(wavs: Path, more: dict[str, Any], rule: str | None) -> None:
    """[P24, O11]"""
    clips, dropped = read(jsonl(wavs, cut(wavs), {**cut(wavs), "id": "d", **more}))
    assert [row["rule"] for row in dropped] == ([rule] if rule else []) and len(clips) == (1 if rule else 2)


@pytest.mark.parametrize(
    ("recording", "rule"),
    [
        ({"transforms": TRANSFORM}, "transforms"),
        ({"channel_ids": [0, 1]}, "one_channel"),
        ({"sources": [{"type": "file", "source": "a.wav"}, {"type": "file", "source": "b.wav"}]}, "unreadable"),
        ({"sources": [{"type": "command", "source": "cat a.wav"}]}, "unreadable"),
    ],
)
def test_what_lhotse_would_do_to_the_sound_is_not_ignored(wavs: Path, recording: dict[str, Any], rule: str) -> None:
    """[O11]"""
    made = cut(wavs)
    clips, dropped = read(jsonl(wavs, {**made, "recording": {**made["recording"], **recording}}))
    assert not clips and [row["rule"] for row in dropped] == [rule] and "file" in dropped[0]["message"]


def test_transforms_that_lhotse_itself_writes_are_seen(wavs: Path) -> None:
    """[O11]"""
    import lhotse

    recording = lhotse.Recording.from_file(str(wavs / "long.wav"))
    plain = recording.to_cut()
    plain.supervisions = [lhotse.SupervisionSegment("s", recording.id, 1.0, 2.0, text="da", language="sr")]
    changed = [
        plain.perturb_speed(0.9),
        plain.perturb_volume(0.5),
        plain.pad(10.0),
        plain.truncate(offset=1.0, duration=2.0),
    ]
    lhotse.CutSet.from_cuts([plain, *(c.with_id(f"x{n}") for n, c in enumerate(changed))]).to_file(
        wavs / "cuts.jsonl.gz"
    )
    clips, dropped = read(wavs / "cuts.jsonl.gz", Statement())
    assert [row["rule"] for row in dropped] == ["transforms", "transforms", "mixed_cut"]
    assert [clip.segments for clip in clips] == [(Segment(1.0, 3.0, "da"),), ()]
    assert (clips[1].offset, clips[1].duration) == (1.0, 2.0)


def test_what_a_cut_says_besides_is_kept(wavs: Path) -> None:
    made = cut(
        wavs, custom={"text": "drugo", "duration": 9, "license": "MIT", "city": "Tuzla"}, features={"type": "fbank"}
    )
    made["supervisions"][0] |= {"gender": "f", "custom": {"mood": "calm"}}
    (clip,), _ = read(jsonl(wavs, made))
    assert (clip.transcript, clip.license, clip.duration) == ("sve", "MIT", 8.0)
    assert clip.extra["text"] == "drugo" and clip.extra["city"] == "Tuzla" and clip.extra["mood"] == "calm"
    assert clip.extra["lhotse_custom"] == {"duration": 9} and clip.extra["features"] == {"type": "fbank"}
    assert clip.extra["lhotse_supervisions"][0]["gender"] == "f"


# ── parquet ──


def test_columns_of_any_type_are_read(wavs: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = (wavs / "0.wav").read_bytes()
    row = {
        "path": "clips/0.wav", "wav": data, "sentence": "da", "id": 7, "speaker_id": 3.0, "ok": True,
        "price": decimal.Decimal("1.50"), "day": datetime.date(2024, 5, 1), "at": datetime.datetime(2024, 5, 1, 12),
        "took": datetime.timedelta(seconds=1.5), "tags": ["a", None], "picture": b"\x89",
        "deep": {"days": [datetime.date(2024, 5, 1)], "bad": float("nan"), "cents": [decimal.Decimal("0.01")]},
        "metadata": {"sentence": "DA", "city": "Tuzla"}, "score": float("nan"),
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row]), wavs / "x.parquet")
    (clip,), dropped = read(wavs / "x.parquet", blob=wavs / "x.blob")
    assert not dropped and (clip.id, clip.transcript, clip.speaker, clip.duration) == ("7", "da", "3", 2.0)
    assert clip.extra["day"] == "2024-05-01" and clip.extra["price"] == "1.50" and clip.extra["took"] == 1.5
    assert clip.extra["deep"] == {"days": ["2024-05-01"], "bad": None, "cents": ["0.01"]} and clip.extra["ok"] is True
    assert clip.extra["city"] == "Tuzla" and clip.extra["metadata"] == {"sentence": "DA"} and clip.extra["path"]
    json.dumps(clip.to_row(), allow_nan=False)


def test_a_parquet_of_paths_alone_names_its_columns(wavs: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"audio": ["0.wav"], "text": ["da"]}), wavs / "x.parquet")
    with pytest.raises(GovorError, match=r"columns are audio \(string\), text \(string\)"):
        read(wavs / "x.parquet", blob=wavs / "x.blob")


# ── the command ──


def test_a_refused_manifest_leaves_nothing_and_hurts_nothing(workspace: Path, govor: Run, wavs: Path) -> None:
    """[small things]"""
    bad = jsonl(workspace, {"audio": str(wavs / "0.wav"), "text": "", "language": "sr"})
    failed = govor("manifest", str(bad), expect=2)
    assert "1 empty_transcript" in failed.stderr and "m.dropped.jsonl" in failed.stderr
    assert not (workspace / "manifests" / "m.jsonl").exists()
    jsonl(workspace, {"audio": str(wavs / "0.wav"), "text": "da", "language": "sr"})
    govor("manifest", str(bad))
    before = (workspace / "manifests" / "m.jsonl").read_bytes()
    jsonl(workspace, {"audio": str(wavs / "0.wav"), "text": "da"})
    assert "--language" in govor("manifest", str(bad), "--overwrite", expect=2).stderr
    assert (workspace / "manifests" / "m.jsonl").read_bytes() == before
    assert not list((workspace / "manifests").glob(".*tmp"))


def test_a_small_manifest_beside_the_full_one(workspace: Path, govor: Run, wavs: Path) -> None:
    """[C5]"""
    rows = [
        {
            "id": f"{n}",
            "audio": str(wavs / "0.wav"),
            "text": "da",
            "duration": 2.0,
            "lang": lang,
            "speaker": f"{lang}{n % 4}",
        }
        for lang, count in (("sr", 60), ("Bosnian", 20), ("he", 3))
        for n in range(1000 * len(lang), 1000 * len(lang) + count)
    ]
    rows = [{**row, "id": f"{row['lang']}{row['id']}"} for row in rows]
    jsonl(workspace, *rows)
    govor("manifest", "m.jsonl", "--out", "manifests/run1.jsonl", "--small", "9", "--license", "own")
    full, small = (list(read_clips(workspace / "manifests" / f"{name}.jsonl")) for name in ("run1", "run1_small"))
    assert len(full) == 83 and len(small) == 9 and {clip.id for clip in small} < {clip.id for clip in full}
    assert sorted(clip.language for clip in small) == ["bs"] * 3 + ["he"] * 3 + ["sr"] * 3
    assert len({clip.speaker for clip in small if clip.language == "sr"}) == 3
    random.Random(1).shuffle(rows)
    jsonl(workspace, *rows, name="n.jsonl")
    govor("manifest", "n.jsonl", "--small", "9", "--license", "own")
    assert {c.id for c in read_clips(workspace / "manifests" / "n_small.jsonl")} == {clip.id for clip in small}
    assert (
        "already exists"
        in govor("manifest", "m.jsonl", "--out", "manifests/run1.jsonl", "--small", "9", expect=2).stderr
    )
    assert "does nothing" in govor("manifest", "m.jsonl", "--to", "paired", "--small", "9", expect=2).stderr


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.floats(0, 40)), max_size=40), st.integers(1, 50))
def test_a_small_set_has_as_many_as_asked(kinds: list[tuple[str, int, float]], count: int) -> None:
    chosen = Small(count)
    for number, (language, speaker, seconds) in enumerate(kinds):
        chosen.see(Clip(f"{number}", "x", "x", seconds, language, speaker=str(speaker)))
    numbers = chosen.chosen()
    assert len(numbers) == min(count, len(kinds)) and numbers <= set(range(len(kinds)))
    if count >= 2:
        assert {kinds[n][0] for n in numbers} == {language for language, _, _ in kinds}


# ── anything at all ──

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
    st.lists(st.text(max_size=3), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip
KEYS = ["audio", "text", "transcript", "id", "lang", "speaker", "duration", "offset", "segments", "words", "govor_extra", "error", "start", "seek", "entry_id", "has_prev", "prev_transcript", "type", "tracks", "supervisions", "recording", "metadata", "license", "x"]  # fmt: skip


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8), max_size=4),
    st.sampled_from([".jsonl", ".json"]),
)
def test_no_json_row_is_lost_and_none_breaks_the_reader(wavs: Path, rows: list[dict[str, Any]], suffix: str) -> None:
    path = wavs / f"fuzz{suffix}"
    texts = [json.dumps(row) for row in rows]
    path.write_text("[" + ",".join(texts) + "]" if suffix == ".json" else "\n".join(texts))
    try:
        clips, dropped = read(path)
    except GovorError:
        return
    assert len(clips) + len(dropped) == len(rows)
    said = "".join(json.dumps(row, ensure_ascii=False) for row in rows)
    for clip in clips:
        assert (
            json.dumps(" ".join(clip.transcript.split()), ensure_ascii=False)[1:-1] in " ".join(said.split())
            or clip.segments
        )
    write_rows(wavs / "fuzz.dropped", dropped)
    write_rows(wavs / "fuzz.kept.jsonl", (clip.to_row() for clip in clips))
    assert read(wavs / "fuzz.kept.jsonl")[0] == clips


@pytest.mark.parametrize(
    "layout", ["govor", "inline", "nemo", "qwen3-asr", "lhotse", "audiofolder", "commonvoice", "parquet"]
)
def test_damaged_bytes_of_a_good_file_are_refused_or_listed(wavs: Path, layout: str) -> None:
    """Every reader: whatever single bytes turn into, no row vanishes unsaid and nothing but a sentence comes out."""
    folder = wavs / "good"
    clips = [Clip(f"c{n}", str(wavs / "0.wav"), f"reč čaša {n}", 2.0, "sr", speaker="ana", segments=(Segment(0, 1, f"reč čaša {n}"),) if n == 1 else (), extra={"a": [1, "b"]}) for n in range(3)]  # fmt: skip
    target = (
        folder
        if layout in ("audiofolder", "commonvoice")
        else wavs / ("g.parquet" if layout == "parquet" else "g.jsonl")
    )
    export(clips, layout, target)
    file = {"audiofolder": folder / "metadata.csv", "commonvoice": folder / "validated.tsv"}.get(layout, target)
    good = file.read_bytes()
    generator = random.Random(7)
    limit = 40 if layout == "parquet" else 150
    for _ in range(limit):
        data = bytearray(good)
        for _ in range(generator.randint(1, 3)):
            at = (
                generator.randrange(len(data))
                if layout != "parquet"
                else generator.choice(
                    [generator.randrange(4), generator.randrange(max(0, len(data) - 4000), len(data))]
                )
            )
            kind = generator.randrange(3)
            if kind == 0:
                data[at] = generator.choice(b'",\t\n\r{}[]:\\\0\xff019-')
            elif kind == 1:
                del data[at : at + generator.randint(1, 9)]
            else:
                data[at:at] = generator.choice([b'"', b"\n", b",", b"\xef\xbb\xbf", b"null", b"}{"])
        file.write_bytes(data)
        try:
            kept, dropped = read(file, Statement(), blob=wavs / "f.blob")
        except GovorError as error:
            assert "\n" not in str(error).strip() or layout == "parquet"
            continue
        write_rows(wavs / "d.jsonl", dropped)
        write_rows(wavs / "k.jsonl", (clip.to_row() for clip in kept))
        if layout not in ("audiofolder", "commonvoice", "parquet"):
            assert len(kept) + len(dropped) == sum(not line.isspace() for line in bytes(data).splitlines(True) if line)


NASTY = st.text(st.sampled_from("ač\"',\t\n\r\\|<>{} \u2028\x0b\x85ש\u200f=0.\ufeff#"), min_size=1, max_size=8)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NASTY, NASTY, st.none() | NASTY, st.none() | NASTY, st.dictionaries(NASTY, NASTY, max_size=2))
@pytest.mark.parametrize("layout", FORMATS)
def test_odd_letters_come_back_through_every_layout(
    wavs: Path, layout: str, name: str, text: str, speaker: str | None, split: str | None, extra: dict[str, str]
) -> None:
    clip = Clip(name, str(wavs / "0.wav"), f"x{text}x", 2.0, "sr", speaker=speaker, source=name, split=split, license=text, extra=extra)  # fmt: skip
    target = wavs / f"odd{len(list(wavs.glob('odd*')))}"
    if layout not in ("audiofolder", "commonvoice", "paired"):
        target = target / {"parquet": "x.parquet", "lhotse": "cuts.jsonl"}.get(layout, "x.jsonl")
    export([clip], layout, target)
    (back,), dropped = read(target, Statement(), blob=wavs / "odd.blob")
    assert not dropped and dict(back.extra) == extra
    found, wanted = ({**one.own_row(), "audio": "", "transcript": one.transcript.split()} for one in (back, clip))
    assert found == wanted


def test_blank_lines_stand_anywhere(wavs: Path) -> None:
    clips, dropped = read(table(wavs, "\n\nfile_name,text\n\n0.wav,da\n,\n1.wav,ne,\n\n"))
    assert [clip.transcript for clip in clips] == ["da"] and dropped[0]["message"].split(": ")[0].endswith(
        "metadata.csv:7"
    )
