"""A cell that a spreadsheet would run is marked, and comes back."""

import csv
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from govor.corpus.cells import from_cell, to_cell
from govor.corpus.formats import read_source
from govor.corpus.inventory import Statement
from govor.runs import Workspace
from messy import voice

Run = Callable[..., CompletedProcess[str]]


def recorded(folder: Path, name: str = "a.wav", seconds: float = 1.0, **beside: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    audio = folder / name
    soundfile.write(audio, voice(len(name), seconds), 16_000, format="WAV")
    for suffix, text in beside.items():
        audio.with_suffix(f".{suffix}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return audio


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
        recorded(Path(), name, txt="=ano")
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
