"""The licence gate, the list of licences, and forgetting."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from conftest import make_split, toy_recipe
from govor.corpus.licenses import canonical, document, gate, known
from govor.corpus.manifests import fingerprint, read_clips, read_rows, write_clips
from govor.corpus.records import Clip, Segment
from govor.errors import GovorError
from messy import voice

Run = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("cc by 4.0", "CC-BY-4.0"),
        ("CC_BY-4.0", "CC-BY-4.0"),
        ("https://creativecommons.org/licenses/by-sa/4.0/", "CC-BY-SA-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("cc0", "CC0-1.0"),
        ("Own", "own"),
        ("ivrit.ai", "ivrit.ai"),
        ("custom: agreed with the radio", "custom:agreed with the radio"),
        ("custom:", None),
        ("whatever", None),
        ("", None),
        (None, None),
        ("unknown", None),
    ],
)
def test_a_licence_is_known_however_it_is_spelled(stated: str | None, name: str | None) -> None:
    assert canonical(stated) == name


def test_every_known_licence_is_its_own_spelling() -> None:
    assert all(canonical(name) == name for name in known())


def clip(number: int, license: str | None, **more: object) -> Clip:
    return Clip(f"c{number}", f"a{number}.wav", "ano", 3600.0, "cs", license=license, **more)  # type: ignore[arg-type]


def test_the_gate_names_what_it_refuses_and_the_way_out() -> None:
    gate([clip(0, "own"), clip(1, "custom:x"), clip(2, "research-only")], "train", "m")
    with pytest.raises(
        GovorError, match=r"2 clips of m may not be trained on: 2 have no licence \(for example 'c1'\).*--state"
    ):
        gate([clip(0, "own"), clip(1, None), clip(2, None)], "train", "m")
    with pytest.raises(GovorError, match=r"unknown licence 'CC-BY-5.0'.*did you mean 'CC-BY-"):
        gate([clip(0, "CC-BY-5.0")], "train", "m")
    with pytest.raises(GovorError, match="all-rights-reserved, which forbids it"):
        gate([clip(0, "all-rights-reserved")], "train", "m")
    with pytest.raises(GovorError, match="may not be published"):
        gate([clip(0, "research-only")], "publish", "m")


def test_the_document_counts_hours_and_says_what_each_licence_asks() -> None:
    rows = [
        clip(0, "ivrit.ai", extra={"dataset": "ivrit-recital"}, extra_terms="name ivrit.ai; no deepfakes"),
        clip(1, "ivrit.ai", extra={"dataset": "ivrit-recital"}, extra_terms="name ivrit.ai; no deepfakes"),
        clip(2, None, extra={"dataset": "web", "source_url": "https://example.org/x/y.mp3"}),
    ]
    text = document(rows)
    assert "| ivrit.ai | ivrit-recital |  | 2 | 2.00 |" in text and "no deepfakes" in text
    assert "| unknown | web | https://example.org | 1 | 1.00 |" in text and "1 clips are quarantined" in text


def test_training_refuses_rows_without_a_licence_until_one_is_stated(
    workspace: Path, tiny_folder: Path, govor: Run
) -> None:
    split = make_split(workspace)
    rows = [row for _, row in read_rows(split / "train.jsonl")]
    for row in rows[:3]:
        del row["license"]
    (split / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = toy_recipe(split, tiny_folder, workspace / "toy.yaml")
    refused = govor("train", recipe, "--max-steps", "1", expect=2)
    assert "3 clips" in refused.stderr and "--state" in refused.stderr and not (workspace / "models").exists()
    counted = govor("licenses", split / "train.jsonl", expect=1)
    assert "unknown" in counted.stdout and "quarantined" in (workspace / "DATA_LICENSES.md").read_text()
    govor("licenses", split / "train.jsonl", "--state", "own")
    govor("train", recipe, "--max-steps", "1")
    assert (
        "'nonsense' is no known licence"
        in govor("licenses", split / "train.jsonl", "--state", "nonsense", expect=2).stderr
    )


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
