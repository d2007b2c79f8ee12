"""Forgetting a speaker or a source: every spelling, every copy, and nothing else."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from corpus.test_duplicates import real_like
from govor.corpus.forget import plan
from govor.corpus.manifests import Manifest, fingerprint, read_clips, read_rows, write_clips
from govor.corpus.records import Clip, Segment
from govor.corpus.wishes import Wish
from govor.errors import GovorError
from govor.runs import Workspace
from messy import voice
from rows import lines, row

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def shared(workspace: Path) -> Path:
    """Two speakers: files of their own, a file they share, and a blob; a run that was trained on all of it."""
    clips = []
    for number in range(4):
        soundfile.write(f"{number}.wav", voice(number), 16_000)
        Path(f"{number}.txt").write_text("ano")
        speaker = "ana" if number < 2 else "boris"
        clips.append(
            Clip(
                f"c{number}",
                f"{number}.wav",
                "ano",
                0.8,
                "cs",
                speaker=speaker,
                source=f"tape/{number}",
                license="own",
                pcm_sha256=f"{number}" * 8,
                sha256=f"f{number}",
            )
        )
    data = [Path(f"{number}.wav").read_bytes() for number in (0, 2)]
    Path("all.blob").write_bytes(b"".join(data))
    clips.append(
        Clip("b0", f"all.blob#0,{len(data[0])}", "ne", 0.8, "cs", speaker="ana", license="own", pcm_sha256="b0")
    )
    clips.append(Clip("b1", f"all.blob#{len(data[0])},{len(data[1])}", "ne", 0.8, "cs", speaker="boris", license="own"))
    clips.append(
        Clip("s0", "3.wav", "ano", 0.3, "cs", offset=0.0, license="own", segments=(Segment(0, 0.3, "ano", "ana"),))
    )
    write_clips(Path("manifests/all.jsonl"), clips)
    write_clips(Path("manifests/splits/x/train.jsonl"), clips)
    dropped = {"row": clips[0].to_row() | {"id": "old"}, "rule": "silent", "measured": 1, "limit": 2, "message": "m"}
    Path("manifests/dropped.jsonl").write_text(json.dumps(dropped) + "\n")
    Path("manifests/dataset_inventory.csv").write_text("id,audio,speaker\nc0,0.wav,ana\nc2,2.wav,boris\n")
    for run in ("one", "two"):
        record = Path(f"models/whisper/{run}/run_manifest.json")
        record.parent.mkdir(parents=True)
        train = fingerprint(Path("manifests/splits/x/train.jsonl"))
        record.write_text(
            json.dumps({"data": {"train": train if run == "one" else {**train, "sha256": "of another time"}}})
        )
    Path("reports/one").mkdir(parents=True)
    Path("reports/one/index.html").write_text("<p>c0</p>")
    return workspace


def test_forgetting_a_speaker_removes_rows_and_sound_and_names_the_runs(shared: Path, govor: Run) -> None:
    dry = govor("forget", "--speaker", "ana", "--dry-run", "--json", expect=1)
    plan = json.loads(dry.stdout)
    assert Path("0.wav").exists() and len(list(read_clips("manifests/all.jsonl"))) == 7
    done = govor("forget", "--speaker", "ana", "--json", expect=1)  # 1: a file that boris still needs stays
    summary = json.loads(done.stdout)
    assert {**plan, "dry_run": False} == summary
    assert {clip.id for clip in read_clips("manifests/all.jsonl")} == {"c2", "c3", "b1"}
    assert (
        Path("manifests/dropped.jsonl").read_text() == ""
        and "c0" not in Path("manifests/dataset_inventory.csv").read_text()
    )
    assert (
        not Path("0.wav").exists() and not Path("1.txt").exists() and Path("2.wav").exists() and Path("3.wav").exists()
    )
    assert summary["audio_kept_for_others"] == ["3.wav"]
    length = Path("2.wav").stat().st_size
    blob = Path("all.blob").read_bytes()
    assert not any(blob[:-length]) and blob[-length:] == Path("2.wav").read_bytes()
    assert summary["runs_that_used_them"] == ["models/whisper/one"] and summary["runs_that_cannot_be_checked"] == [
        "models/whisper/two"
    ]
    assert summary["files_that_still_hold_them"] == ["reports/one/index.html"]
    assert "ana" not in Path("manifests/tombstones.jsonl").read_text()
    # The manifest has changed since the run, and the history still tells what it held.
    assert json.loads(govor("forget", "--source", "tape", "--json").stdout)["runs_that_used_them"] == [
        "models/whisper/one"
    ]
    assert "No row has the speaker 'ana'" in govor("forget", "--speaker", "ana", expect=2).stderr


def test_what_was_forgotten_does_not_come_back(workspace: Path, govor: Run) -> None:
    for number in range(3):
        Path("tapes", f"s{number}").mkdir(parents=True)
        soundfile.write(f"tapes/s{number}/a.wav", voice(number), 16_000)
        Path(f"tapes/s{number}/a.txt").write_text(f"ano {number}")
    govor("inventory", "tapes", "--language", "cs", "--license", "own")
    govor("validate", "manifests/dataset_inventory.jsonl")
    samples, rate = soundfile.read("tapes/s1/a.wav", dtype="int16")
    govor("forget", "--source", "tapes/s1")
    assert not Path("tapes/s1/a.wav").exists()
    soundfile.write("tapes/s1/again.flac", samples, rate)  # the same sound in another file
    Path("tapes/s1/again.txt").write_text("ano 1")
    govor("inventory", "tapes", "--language", "cs", "--license", "own", "--overwrite")
    govor("validate", "manifests/dataset_inventory.jsonl", "--overwrite", expect=1)
    assert [row["rule"] for _, row in read_rows("manifests/dropped.jsonl")] == ["forgotten"]
    assert len(list(read_clips("manifests/kept.jsonl"))) == 2


def test_forgetting_needs_exactly_one_name(workspace: Path, govor: Run) -> None:
    assert "either --speaker or --source" in govor("forget", expect=2).stderr
    assert "either --speaker or --source" in govor("forget", "--speaker", "a", "--source", "b", expect=2).stderr


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


Govor = Callable[..., CompletedProcess[str]]


def a_clip(number: int, **about: object) -> Clip:
    row = {"id": f"c{number:04d}", "audio": f"w/{number}.wav", "transcript": f"rečenica broj {number}", "duration": 3.0}
    return Clip(**{**row, "language": "sr", **about})  # type: ignore[arg-type]


@pytest.fixture
def recordings(workspace: Path) -> Path:
    for number in range(6):
        soundfile.write(f"{number}.wav", voice(number), 16_000)
    said = ["dobro jutro svima redom", "idemo dalje polako", "treća rečenica ovde", "četvrta", "peta", "šesta"]
    names = ["Željko", unicodedata.normalize("NFD", "Željko"), " Željko ", "željko", "Boris", "Boris"]
    clips = [
        a_clip(i, audio=f"{i}.wav", duration=0.8, transcript=said[i], speaker=names[i], source="traka")
        for i in range(6)
    ]
    clips[4] = clips[4].replace(prev_transcript="Dobro jutro, svima redom!", prev_segments=(Segment(0, 1, "x"),))
    clips[5] = clips[5].replace(prev_transcript="peta")
    write_clips(Path("manifests/m.jsonl"), clips)
    return workspace


def test_forgetting_finds_every_spelling_and_what_quotes_it(recordings: Path, govor: Govor) -> None:
    Path("outputs/0").mkdir(parents=True)
    Path("outputs/0/transcription_base.json").write_text(json.dumps({"audio": "0.wav", "text": "dobro jutro"}))
    Path("outputs/5").mkdir()
    Path("outputs/5/transcription_base.json").write_text(json.dumps({"audio": "5.wav", "text": "ne"}))
    Path("data/processed/x").mkdir(parents=True)
    Path("data/processed/x/copy.wav").write_bytes(Path("0.wav").read_bytes())
    for place in ("reports/r/clips.js", "logs/training/r.log", "data/notes.txt"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).write_text(f'"{unicodedata.normalize("NFD", "Željko")}"')
    Path("provenance.yaml").write_text("speaker: Željko\n")
    dry = json.loads(govor("forget", "--speaker", "Željko", "--dry-run", "--json", expect=1).stdout)
    assert Path("0.wav").exists() and Path("outputs/0").exists()
    done = json.loads(govor("forget", "--speaker", "Željko", "--json", expect=1).stdout)
    assert {**dry, "dry_run": False} == done
    kept = list(read_clips("manifests/m.jsonl"))
    assert [c.id for c in kept] == ["c0003", "c0004", "c0005"] and done["names_that_differ_by_case"] == ["željko"]
    assert kept[1].prev_transcript is None and not kept[1].prev_segments and kept[2].prev_transcript == "peta"
    assert done["contexts_emptied_by_file"] == {"manifests/m.jsonl": 1}
    assert not any(Path(f"{i}.wav").exists() for i in range(3)) and Path("3.wav").exists()
    assert not Path("outputs/0").exists() and Path("outputs/5").exists()
    assert not Path("data/processed/x/copy.wav").exists()
    assert set(done["files_that_still_hold_them"]) == {"reports/r/clips.js", "logs/training/r.log", "data/notes.txt"}
    assert done["files_beside_the_audio_that_name_them"] == ["provenance.yaml"]
    # Rows without a hash: the files' own keep them from coming back.
    assert sum("sha256" in line for line in Path("manifests/tombstones.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("spelled_as", ["0.wav", "./0.wav", "../{}/0.wav", "{}/0.wav"])
@pytest.mark.parametrize("part", [False, True])
def test_one_file_is_one_however_its_path_is_spelled(
    recordings: Path, govor: Govor, spelled_as: str, part: bool
) -> None:
    place = spelled_as.format(Path.cwd().name if spelled_as.startswith("..") else Path.cwd())
    both = [a_clip(0, audio="0.wav", speaker="Ana"), a_clip(1, audio=place, speaker="Iva")]
    if part:
        both = [one.replace(offset=0.4 * number, duration=0.4) for number, one in enumerate(both)]
    write_clips(Path("manifests/m.jsonl"), both)
    govor("forget", "--speaker", "Ana", "--json", expect=1 if part else 0)
    assert [c.id for c in read_clips("manifests/m.jsonl")] == (["c0001"] if part else [])
    assert Path("0.wav").exists() == part


@pytest.mark.parametrize("name", ["", " ", "\u200b"])
@pytest.mark.parametrize("kind", ["speaker", "source"])
def test_a_blank_name_forgets_nobody(recordings: Path, govor: Govor, kind: str, name: str) -> None:
    Path("manifests/t.csv").write_text("file_name,transcription,speaker,source\n0.wav,da,,\n")
    assert "no name" in govor("forget", f"--{kind}", name, expect=2).stderr
    assert not Wish("source", name).covers({"source": "", "dataset": None})
    with pytest.raises(GovorError, match="No row has the source 'None'"):
        plan(Workspace(), Wish("source", "None"))


def test_a_name_of_other_case_is_named_and_nothing_is_done(recordings: Path) -> None:
    with pytest.raises(GovorError, match=r"No row has the speaker 'BORIS'.*there is 'Boris'"):
        plan(Workspace(), Wish("speaker", "BORIS"))
    assert Wish("source", "cafe\u0301").covers({"source": "rec/café "}) and Wish("speaker", "a").covers(
        {"segments": [{"speaker": "a "}]}
    )
