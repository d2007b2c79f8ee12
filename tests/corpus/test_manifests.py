"""Manifests of others: odd names, numbers that are none, rows that repeat."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from conftest import WORDS
from govor.corpus.manifests import Manifest, read_clips
from govor.corpus.records import Clip
from messy import voice
from rows import lines, row

Run = Callable[..., CompletedProcess[str]]


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


def clips(count: int, speakers: int, sources: int = 10_000) -> list[Clip]:
    return [
        Clip(
            f"c{i}",
            f"{i}.wav",
            f"{WORDS[i % 6]} {i}",
            1 + i % 5,
            "cs",
            speaker=f"s{i % speakers}",
            source=f"r{i % sources}",
        )
        for i in range(count)
    ]


def test_a_written_manifest_is_read_back(tmp_path: Path) -> None:
    from govor.corpus.manifests import write_clips

    rows = clips(20, 3)
    write_clips(tmp_path / "m.jsonl", rows)
    assert list(read_clips(tmp_path / "m.jsonl")) == rows
