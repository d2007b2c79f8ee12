"""One test per defect that was found by using the corpus stage on hostile input."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import soundfile

from corpus.test_duplicates import real_like, run, write
from govor.corpus.formats import export, read_source
from govor.corpus.guarded import check_url, is_public
from govor.corpus.inventory import Statement
from govor.corpus.manifests import Manifest, read_clips, read_rows, write_clips
from govor.corpus.moves import with_sidecars
from govor.corpus.normalize import normalize_clips
from govor.corpus.records import Clip, sentence_key
from govor.corpus.split import SplitSettings, split
from govor.errors import GovorError
from govor.runs import Workspace
from messy import voice

Run = Callable[..., CompletedProcess[str]]


def row(name: str, audio: str = "a.wav", **more: object) -> dict[str, object]:
    return {
        "id": name,
        "audio": audio,
        "transcript": "ano",
        "duration": 1.0,
        "language": "cs",
        "license": "own",
        **more,
    }


def lines(path: str, *rows: object) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return Path(path)


def test_forgetting_goes_by_sound_and_not_by_an_id_that_another_manifest_uses(workspace: Path, govor: Run) -> None:
    for name, number in (("ana", 1), ("ben", 2)):
        soundfile.write(f"{name}.wav", voice(number), 16_000)
        lines(f"manifests/{name}.jsonl", row("001", f"{name}.wav", speaker=name))
    govor("forget", "--speaker", "ana")
    assert not Path("ana.wav").exists() and Path("ben.wav").exists()
    assert len(Manifest("manifests/ben.jsonl")) == 1 and not Path("manifests/ana.jsonl").read_text()


def test_forgetting_reaches_moved_copies_and_exports_and_lists_the_rest(workspace: Path, govor: Run) -> None:
    for name, number in (("ana/a", 1), ("ana/copy", 1), ("ben/b", 2)):
        Path(f"t/{name}").parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(f"t/{name}.wav", real_like(number), 16_000)
        Path(f"t/{name}.txt").write_text(f"ano {name}" if "copy" not in name else "ano ana/a")
    Path("t/ana/provenance.yaml").write_text("speaker: ana\n")
    govor("inventory", "t", "--language", "cs", "--license", "own")
    govor("validate", "manifests/dataset_inventory.jsonl", "--move-duplicates", expect=1)
    assert list(Path("uploads/duplicates").rglob("copy.wav"))
    for layout in ("audiofolder", "commonvoice", "paired", "parquet"):
        govor("manifest", "manifests/kept.jsonl", "--to", layout)
    lines("data/sources/x/part.jsonl", row("p", "t/ana/a.wav", speaker="ana"))
    done = json.loads(govor("forget", "--speaker", "ana", "--json", expect=1).stdout)
    assert done["files_that_still_hold_them"] == ["manifests/kept.parquet"]
    left = [
        path
        for path in Path().rglob("*")
        if path.is_file() and path.suffix != ".parquet" and b"ana" in path.read_bytes()
    ]
    assert left == [Path("t/ana/provenance.yaml")]
    sounds = sorted(path.stem for path in Path().rglob("*.wav"))
    assert all("ana" not in str(path) for path in Path().rglob("*.wav")) and sounds
    assert "0 files moved back" in govor("validate", "--undo").stdout


def test_forgetting_a_numeric_speaker_and_a_damaged_csv(workspace: Path, govor: Run) -> None:
    soundfile.write("a.wav", voice(1), 16_000)
    lines("manifests/m.jsonl", row("a", speaker=7), row("b", "b.wav", speaker="8"))
    Path("manifests/t.csv").write_text(f'id,audio,speaker\na,a.wav,7,too,many\nb,b.wav,8\nc,c.wav,"{"x" * 200_000}"\n')
    govor("forget", "--speaker", "7")
    assert not Path("a.wav").exists() and [clip.id for clip in read_clips("manifests/m.jsonl")] == ["b"]
    assert Path("manifests/t.csv").read_text().startswith("id,audio,speaker\nb,b.wav,8\nc,")


def test_words_stay_where_another_recording_of_that_name_needs_them(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "b.wav"):
        soundfile.write(tmp_path / name, voice(1), 16_000)
    for name in ("a.txt", "b.txt", "b.norm.txt"):
        (tmp_path / name).write_text("ano")
    assert [path.name for path in with_sidecars(tmp_path / "a.wav")] == ["a.wav"]
    assert [path.name for path in with_sidecars(tmp_path / "b.wav")] == ["b.wav", "b.txt", "b.norm.txt"]


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


def test_guessed_sources_that_cross_are_counted() -> None:
    clips = [Clip(f"{t}-{n}", f"t{t}.wav", f"{t} {n}", 2.0, "cs", offset=2.0 * n) for t in range(4) for n in range(6)]
    division = split(clips, SplitSettings(allow_overlap=("source",)))
    assert sum(division.proof["overlaps"]["source"].values()) > 0 and not division.clean


def test_equal_samples_are_one_group() -> None:
    clips = [
        Clip(f"c{n}", f"{n}.wav", f"věta {n}", 2.0, "cs", source=f"s{n}", pcm_sha256=f"p{n // 2}") for n in range(60)
    ]
    assert split(clips, SplitSettings()).clean


@pytest.mark.parametrize(("one", "other"), [("มา", "ม้า"), ("मीरा", "मोर"), ("on\u0308ana", "onana")])
def test_marks_make_another_sentence(one: str, other: str) -> None:
    assert sentence_key(one) != sentence_key(other)
    assert sentence_key("שָׁלוֹם") == sentence_key("שלום") and sentence_key("كِتاب") == sentence_key("كتاب")


def test_harvesting_leaves_other_rows_of_the_inventory(workspace: Path, govor: Run) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
        soundfile.write(f"{folder}/a.wav", voice(len(folder)), 16_000)
    govor("inventory", "one", "--language", "he", "--license", "own")
    govor("inventory", "two", "--resume")
    found = {item["id"]: item for _, item in read_rows("manifests/dataset_inventory.jsonl")}
    assert set(found) == {"one/a", "two/a"} and found["one/a"]["language"] == "he"


def test_times_beyond_the_end_have_a_reason(workspace: Path, govor: Run) -> None:
    soundfile.write("long.wav", np.concatenate([real_like(1, 30.0), real_like(2, 15.0)]), 16_000)
    soundfile.write("short.wav", real_like(3), 16_000)
    late = {"start": 100.0, "end": 120.0, "text": "pozdě"}
    good = {"start": 0.0, "end": 9.0, "text": "ano"}
    rows = [
        row("none", "long.wav", duration=45.0, segments=[late]),
        row("some", "long.wav", duration=45.0, segments=[good, late]),
        row("short", "short.wav", duration=3.0, segments=[{"start": 2.0, "end": 9.0, "text": "ano"}]),
    ]
    lines("m.jsonl", *rows)
    govor("preprocess", "m.jsonl", "--name", "p", "--vad", "energy", expect=1)
    dropped = [(item["row"]["transcript"], item["rule"]) for _, item in read_rows("manifests/p.dropped.jsonl")]
    assert dropped == [("pozdě", "times_beyond_end")] * 2
    govor("validate", "m.jsonl", "--near-duplicates", "off", expect=2)
    assert {item["rule"] for _, item in read_rows("manifests/dropped.jsonl")} == {"times_beyond_end"}


def test_one_channel_of_a_stereo_recording_is_not_its_mix(tmp_path: Path) -> None:
    recording = {
        "id": "r",
        "sources": [{"type": "file", "channels": [0, 1], "source": "r.wav"}],
        "duration": 1.0,
        "channel_ids": [0, 1],
    }
    cut = {
        "id": "c",
        "start": 0.0,
        "duration": 1.0,
        "channel": 1,
        "supervisions": [{"start": 0, "duration": 1, "text": "a", "language": "cs"}],
        "recording": recording,
    }
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut) + "\n")
    dropped: list[dict] = []
    assert not list(read_source(Workspace(), tmp_path / "cuts.jsonl", Statement(), dropped.append))
    assert dropped[0]["rule"] == "one_channel"


def test_copies_with_other_words_are_called_a_conflict(tmp_path: Path) -> None:
    rows = [
        write(tmp_path, "a.wav", real_like(1), transcript="dobře"),
        write(tmp_path, "b.flac", real_like(1), transcript="docela jinak"),
    ]
    _, dropped = run(rows)
    assert "their transcripts differ" in dropped[0]["message"]


def test_a_shared_jingle_is_no_copy(tmp_path: Path) -> None:
    jingle = real_like(9, 2.5)
    rows = [write(tmp_path, f"{n}.wav", np.concatenate([jingle, real_like(n, 1.5)])) for n in range(3)]
    kept, dropped = run(rows)
    assert len(kept) == 3 and not dropped and len({clip.near_duplicate_group for clip in kept}) == 1


@pytest.mark.parametrize(
    "line",
    ['{"id": "b", "audio": "a.wav", "transcript": "x", "duration": NaN, "language": "cs"}', json.dumps(row("b", duration=10**400)), '{"a": ' + "[" * 100_000, '{"id": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_numbers_that_are_none_and_bottomless_nesting_are_one_sentence(workspace: Path, govor: Run, line: str) -> None:
    soundfile.write("a.wav", voice(1), 16_000)
    lines("m.jsonl", row("a"), line)
    for command in ("manifest", "validate", "normalize", "preprocess", "split", "balance"):
        done = govor(
            command, "m.jsonl", *(["--out", "manifests/o.jsonl"] if command == "manifest" else []), expect=None
        )
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr, (command, done.stderr)


def test_hostile_files_beside_a_recording_do_not_stop_the_others(workspace: Path, govor: Run) -> None:
    hostile = {
        "deep.json": '{"segments": ' + "[" * 100_000,
        "huge.json": json.dumps({"segments": [{"start": 10**400, "text": "x"}]}),
        "srt.srt": f"1\n{'9' * 400}:00:00,000 --> 00:00:01,000\nx\n",
        "lrc.lrc": f"[{'9' * 400}:00.00] x\n",
        "inline.txt": f"<|{'9' * 400}|> x<|1.00|>",
        "nested.wav.provenance.json": "[" * 100_000,
        "number.wav.provenance.json": "5",
    }
    for name, text in {
        **hostile,
        "good.txt": "ano",
        "meta.json": '{"segments": 3, "bpm": 120}',
        "meta.txt": "ano",
    }.items():
        stem = name.split(".")[0]
        Path("t").mkdir(exist_ok=True)
        soundfile.write(f"t/{stem}.wav", voice(len(stem)), 16_000)
        Path(f"t/{name}").write_text(text)
    done = govor("inventory", "t", "--language", "cs", expect=1)
    assert "Traceback" not in done.stderr
    found = {item["filename"]: item for _, item in read_rows("manifests/dataset_inventory.jsonl")}
    assert found["good.wav"]["error"] is None and found["meta.wav"]["transcript"] == "ano"


def test_long_names_are_read(workspace: Path, govor: Run) -> None:
    name = "ก" * 82
    Path("t").mkdir()
    soundfile.write("t/x.wav", voice(1), 16_000)
    Path("t/x.wav").rename(f"t/{name}.wav")
    govor("inventory", "t", "--language", "th")


def test_odd_addresses() -> None:
    assert check_url("http://example.org/שלום.wav?q=č") == "http://example.org/%D7%A9%D7%9C%D7%95%D7%9D.wav?q=%C4%8D"
    assert check_url("http://bücher.example/a%20b.wav") == "http://xn--bcher-kva.example/a%20b.wav"
    for url in ("http://a..b/x.wav", f"http://{'x' * 80}.org/x.wav", "http://[::1"):
        with pytest.raises(GovorError):
            check_url(url)
    assert not any(map(is_public, ("::127.0.0.1", "fec0::1", "64:ff9b:1::7f00:1", "192.0.0.8", "5f00::1")))


def test_an_old_inventory_that_is_no_inventory_is_passed_over(workspace: Path, govor: Run) -> None:
    Path("t").mkdir()
    soundfile.write("t/x.wav", voice(1), 16_000)
    Path("manifests").mkdir()
    Path("manifests/.dataset_inventory.jsonl.partial").write_bytes(b'5\n{"id": 1}\n\xff\xfe\n')
    govor("inventory", "t", "--resume")


def test_a_bad_row_among_good_ones_is_dropped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1), 16_000)
    good = row("a", str(tmp_path / "a.wav"))
    bad = [{**good, "id": "b", "speaker": ["x"]}, {**good, "id": "c", "audio": ""}, {**good, "id": "d", "words": 3}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [good, *bad]))
    dropped: list[dict] = []
    assert len(list(read_source(Workspace(), tmp_path / "m.jsonl", Statement(), dropped.append))) == 1
    assert [item["rule"] for item in dropped] == ["malformed_row"] * 3


def test_a_second_try_after_nothing_was_kept_is_not_refused(workspace: Path, govor: Run) -> None:
    soundfile.write("a.wav", voice(1, 0.1), 16_000)
    lines("m.jsonl", row("a", duration=0.1))
    for command in (("validate", "m.jsonl"), ("preprocess", "m.jsonl", "--name", "p", "--vad", "energy")):
        for _ in range(2):
            assert "None of the" in govor(*command, expect=2).stderr
    assert list(read_rows("manifests/dropped.jsonl"))


def test_blank_lines_and_odd_file_names_are_no_obstacle(workspace: Path, govor: Run) -> None:
    Path("my corpus.jsonl").write_text(
        "\n"
        + "\n\n".join(json.dumps(row(f"c{n}", f"{n}.wav", source=f"s{n}", transcript=f"věta {n}")) for n in range(40))
        + "\n \n"
    )
    assert len(Manifest("my corpus.jsonl")) == 40 and Manifest("my corpus.jsonl")[39].id == "c39"
    govor("balance", "my corpus.jsonl")
    govor("split", "my corpus.jsonl")
    assert Path("manifests/splits/my-corpus/proof.json").exists()


def test_repeated_ids_are_refused_before_anything_is_written(workspace: Path, govor: Run) -> None:
    soundfile.write("a.wav", voice(1), 16_000)
    lines("m.jsonl", row("a"), row("a"))
    assert "stands twice" in govor("preprocess", "m.jsonl", "--name", "p", "--vad", "energy", expect=2).stderr
    assert "stands twice" in govor("augment", "m.jsonl", expect=2).stderr


def test_words_are_normalised_and_move_with_the_sound(tmp_path: Path) -> None:
    clip = Clip("a", "a.wav", "Љубав", 2.0, "sr_RS", words=({"word": "Љубав", "start": 0.5, "end": 1.0},))
    from collections import Counter

    (done,) = normalize_clips([clip], Counter())
    assert done.words[0]["word"] == "Ljubav" and done.script == "Latn"


def test_stating_a_licence_for_a_source_that_is_not_there(workspace: Path, govor: Run) -> None:
    lines(
        "m.jsonl",
        row("a", source="recordings/tape-3", license=None),
        row("b", source="recordings/tape-4", license=None),
    )
    assert "nothing was stated" in govor("licenses", "m.jsonl", "--state", "own", "--source", "tape-5", expect=2).stderr
    govor("licenses", "m.jsonl", "--state", "own", "--source", "tape-3", expect=1)
    assert [clip.license for clip in read_clips("m.jsonl")] == ["own", None]


def test_a_pipe_is_no_recording(workspace: Path, govor: Run) -> None:
    import os

    os.mkfifo("a.wav")
    lines("m.jsonl", row("a"))
    assert "unreadable" in govor("validate", "m.jsonl", expect=2).stderr
