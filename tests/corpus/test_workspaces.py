"""The stages of the corpus in workspaces that are not the current folder, several at once, and rows without a transcript."""

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import soundfile

from conftest import make_corpus
from govor import engine
from govor.corpus.forget import forget
from govor.corpus.formats.convert import Conversion, convert
from govor.corpus.formats.writing import FORMATS, is_folder
from govor.corpus.inventory import Statement
from govor.corpus.manifests import read_clips, read_rows, write_rows
from govor.corpus.moves import move_duplicates, undo
from govor.corpus.normalize.files import normalize_file
from govor.corpus.preprocess import Destination, PreprocessSettings, preprocess_file
from govor.corpus.records import Clip
from govor.corpus.rights import list_licenses, state_license
from govor.corpus.scan import take_inventory
from govor.corpus.split import SplitSettings, split_file
from govor.corpus.validate import Limits, validate_files
from govor.corpus.wishes import Wish
from govor.examples.offline import Copies, augment_file, open_augmenter
from govor.runs import Workspace
from messy import BREAKAGES, build, voice

Run = Callable[..., CompletedProcess[str]]


def chain(workspace: Workspace, audio_format: str = "wav") -> None:
    """Every stage, from a folder of recordings to a split."""
    recordings, manifests = workspace.path("recordings"), workspace.manifests
    inventory = take_inventory(workspace, [recordings], Statement("cs", "own"))
    assert inventory.unreadable
    convert(workspace, recordings, Statement("cs", "own"), Conversion("nemo", small=5))
    validated = validate_files(workspace, [inventory.rows_file], Limits())
    assert validated.kept == manifests / "kept.jsonl" and validated.report.dropped["duplicate_file"]
    assert move_duplicates(workspace, manifests) and undo(workspace)[1] == []
    normalized = normalize_file(workspace, validated.kept).target
    settings = PreprocessSettings(audio_format=audio_format)  # type: ignore[arg-type]
    sliced = preprocess_file(workspace, normalized, settings, Destination("sliced"), "energy").target
    augment_file(workspace, sliced, open_augmenter(workspace), Copies("harder"))
    split_file(workspace, sliced, SplitSettings(), "mine")
    state_license(sliced, "CC0-1.0", ["recordings/good/speaker1"])
    list_licenses(workspace, sliced)
    forget(workspace, Wish("source", "good/speaker2"))


def written(workspace: Path) -> dict[str, str]:
    """Hashes of all that a chain has written, by path; an index holds the time of its manifest, a tombstone its own."""
    files = (path for name in ("manifests", "data", "uploads") for path in (workspace / name).rglob("*"))
    kept = [path for path in files if path.is_file() and path.suffix != ".idx" and path.stem != "tombstones"]
    kept += [workspace / "DATA_LICENSES.md"]
    return {path.relative_to(workspace).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def copied(source: Path, target: Path) -> Path:
    """The same recordings to the nanosecond, pipes and links with them."""
    target.mkdir(parents=True)
    subprocess.run(["cp", "-a", source / "recordings", target], check=True)
    return target


@pytest.fixture
def here(workspace: Path) -> Path:
    """The current folder with recordings, sound ones and ones broken in every way."""
    make_corpus(workspace / "recordings" / "good", 24, speakers=8)
    build(workspace / "recordings" / "odd", len(BREAKAGES))
    return workspace


def test_two_workspaces_at_once_write_what_one_in_the_current_folder_does(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = tmp_path_factory.mktemp("apart")
    absolute = Workspace(copied(here, apart / "news"))
    relative = Workspace(Path(os.path.relpath(copied(here, apart / "s"), here)))
    on_processes = engine.map

    def on_one_unless_decoding(items: Iterable[Any], function: Any, *more: Any, **options: Any) -> Iterator[Any]:
        """What starts processes takes most of the time, and once each is enough."""
        if function.func.__name__ == "_check":
            return on_processes(items, function, *more, **options)
        return map(function, items)

    monkeypatch.setattr(engine, "map", on_one_unless_decoding)
    chain(Workspace())
    failures: list[BaseException] = []

    def one(workspace: Workspace) -> None:
        try:
            chain(workspace)
        except BaseException as error:  # a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=one, args=(workspace,)) for workspace in (absolute, relative)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    wanted = written(here)
    assert len(wanted) > 40 and "manifests/splits/mine/train.jsonl" in wanted
    for workspace in (absolute, relative):
        found = written(workspace.root)
        assert {name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)} == set()


def labelled(root: Path, count: int = 24) -> list[Clip]:
    """Clips with labels: most have no transcript, one has an empty one, one has words as well."""
    clips = []
    for number in range(count):
        soundfile.write(root / f"{number}.wav", voice(number), 16_000)
        clip = Clip(
            f"c{number:02}", f"{number}.wav", "", 0.8, "cs", source=f"s{number}", license="own", transcribed=False
        )
        clips.append(clip.replace(labels={"turn": "end" if number % 2 else "goes on"}))
    clips[3] = clips[3].replace(transcribed=True)
    clips[4] = clips[4].replace(transcribed=True, transcript="ano a ne")
    return clips


def test_rows_with_labels_need_no_transcript(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.root.mkdir()
    clips = labelled(workspace.root)
    source = workspace.root / "labels.jsonl"
    write_rows(source, (clip.to_row() for clip in clips))

    made = convert(workspace, source, Statement(), Conversion())
    assert list(read_clips(made.target)) == clips and not made.dropped
    validated = validate_files(workspace, [made.target], Limits())
    assert validated.report.kept == len(clips) and not validated.report.dropped
    normalized = normalize_file(workspace, validated.kept)
    assert [(c.labels, c.transcribed, c.transcript) for c in read_clips(normalized.target)] == [
        (c.labels, c.transcribed, c.transcript) for c in clips
    ]
    sliced = preprocess_file(
        workspace, normalized.target, PreprocessSettings(min_source_seconds=0.5), Destination("x"), "energy"
    )
    assert [c.labels for c in read_clips(sliced.target)] == [c.labels for c in clips] and not sliced.dropped
    folder, division = split_file(workspace, sliced.target, SplitSettings(), "turns")
    parts = [clip for part in ("train", "validation", "test") for clip in read_clips(folder / f"{part}.jsonl")]
    assert {(c.id, c.labels["turn"], c.transcribed) for c in parts} == {
        (c.id, c.labels["turn"], c.transcribed) for c in clips
    }
    assert division.clean and set(division.proof["parts"]["train"]["classes"]) == {"turn=end", "turn=goes on"}


@pytest.mark.parametrize("layout", sorted(FORMATS))
def test_labels_come_back_from_every_layout(tmp_path: Path, layout: str) -> None:
    workspace = Workspace(tmp_path)
    clips = labelled(tmp_path, 6)
    source = tmp_path / "labels.jsonl"
    write_rows(source, (clip.to_row() for clip in clips))
    target = convert(workspace, source, Statement(), Conversion(layout, out=tmp_path / "out" / "x")).target
    if not is_folder(layout):
        target = target.rename(target.with_suffix(".parquet" if layout == "parquet" else ".jsonl"))
    back = convert(workspace, target, Statement(), Conversion(out=tmp_path / "back.jsonl")).target
    found = {clip.id: (clip.labels, clip.transcribed, clip.transcript) for clip in read_clips(back)}
    wanted = {clip.id: (clip.labels, clip.transcribed, clip.transcript) for clip in clips}
    if layout in ("lhotse",):  # a supervision without words is one of no text
        wanted["c03"] = (clips[3].labels, False, "")
    assert found == wanted


def test_what_another_corpus_calls_labels_labels_nothing(workspace: Path, govor: Run) -> None:
    soundfile.write("a.wav", voice(0), 16_000)
    Path("t.csv").write_text("file_name,transcription,labels\na.wav,ano,noisy\n")
    govor("manifest", "t.csv", "--language", "cs")
    ((_, row),) = read_rows("manifests/t.jsonl")
    assert row["labels_stated"] == "noisy" and "labels" not in row
    rows = [
        {"audio": "a.wav", "language": "cs", "labels": labels} for labels in ({"turn": "end"}, {"turn": 1}, {}, None)
    ]
    Path("l.jsonl").write_text("".join(json.dumps({**row, "id": str(n)}) + "\n" for n, row in enumerate(rows)))
    govor("manifest", "l.jsonl", expect=1)
    assert [row["id"] for _, row in read_rows("manifests/l.jsonl")] == ["0"]
    assert [row["rule"] for _, row in read_rows("manifests/l.dropped.jsonl")] == [
        "malformed_row",
        "no_transcript",
        "no_transcript",
    ]
