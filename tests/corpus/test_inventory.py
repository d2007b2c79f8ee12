"""The inventory: what changed is read again and nothing else, every statement beside a recording counts."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from conftest import make_corpus
from govor.corpus.balance import Balance
from govor.corpus.inventory import COLUMNS, Statement, inventory
from govor.corpus.manifests import read_rows
from govor.corpus.records import Clip
from govor.runs import Workspace
from messy import voice

Run = Callable[..., CompletedProcess[str]]


def recording(path: Path, number: int = 0, text: str | bytes | None = "ano", seconds: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, voice(number, seconds), 16_000)
    if text is not None:
        path.with_suffix(".txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows() -> dict[str, dict]:
    return {row["filename"]: row for _, row in read_rows("manifests/dataset_inventory.jsonl")}


def test_a_second_run_reads_only_what_changed(workspace: Path, govor: Run) -> None:
    for number in range(6):
        recording(Path(f"t/{number}.wav"), number)
    govor("inventory", "t", "--language", "cs")
    first = rows()
    os.utime("t/0.wav", ns=(1, 1))  # changed by its date alone
    recording(Path("t/1.wav"), 99)
    Path("t/2.txt").write_text("jiný text")
    Path("t/3.wav").unlink()
    recording(Path("t/6.wav"), 6)
    # Whoever is read gets its hash anew: a planted one shows who was not.
    planted = [{**row, "sha256": f"planted-{name}"} for name, row in first.items()]
    Path("manifests/dataset_inventory.jsonl").write_text("".join(json.dumps(row) + "\n" for row in planted))
    govor("inventory", "t", "--language", "hr", "--license", "own", "--resume")
    second = rows()
    assert set(second) == {"0.wav", "1.wav", "2.wav", "4.wav", "5.wav", "6.wav"}
    assert {name for name, row in second.items() if row["sha256"].startswith("planted")} == {"4.wav", "5.wav"}
    assert second["2.wav"]["transcript"] == "jiný text"
    assert {row["language"] for row in second.values()} == {"hr"}, "what is stated now holds for all"
    assert "already exists" in govor("inventory", "t", expect=2).stderr


def test_an_interrupted_run_is_taken_up(workspace: Path, govor: Run) -> None:
    for number in range(4):
        recording(Path(f"t/{number}.wav"), number)
    govor("inventory", "t")
    found = Path("manifests/dataset_inventory.jsonl")
    lines = found.read_text().splitlines()
    marked = json.dumps({**json.loads(lines[0]), "sha256": "planted"})
    found.with_name(f".{found.name}.partial").write_text(f'{marked}\n{lines[1]}\n{{"cut": "sho')
    found.unlink()
    found.with_suffix(".csv").unlink()
    govor("inventory", "t", "--resume")
    assert [row["sha256"] == "planted" for row in rows().values()] == [True, False, False, False]
    assert not list(Path("manifests").glob(".*partial"))


def test_the_spreadsheet_has_every_column(workspace: Path, govor: Run) -> None:
    recording(Path("t/a.wav"), text="Sutra će cijeli dan padati snijeg, ostajemo ovdje.")
    said = govor("inventory", "t")
    with Path("manifests/dataset_inventory.csv").open(newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert tuple(row) == COLUMNS
    wanted = (
        "filename",
        "size_bytes",
        "duration",
        "sample_rate_hz",
        "channels",
        "codec",
        "transcript_present",
        "sha256",
    )
    assert all(row[name] for name in wanted) and row["language_guess"] == "bs/hr"
    assert "no language is stated" in said.stderr


def test_statements_beside_the_recordings_count(workspace: Path, govor: Run) -> None:
    recording(Path("t/ana/a.wav"), 1)
    recording(Path("t/boris/b.wav"), 2)
    Path("t/provenance.yaml").write_text("license: CC-BY-4.0\nlanguage: hr\ndate: 2024-05-01\n")
    Path("t/ana/provenance.yaml").write_text("speaker: ana\nlicense: own\n")
    Path("t/boris/b.wav.provenance.json").write_text(
        json.dumps({"source_url": "https://example.org/b", "speaker": "boris"})
    )
    govor("inventory", "t")
    found = rows()
    assert (found["a.wav"]["license"], found["a.wav"]["speaker"], found["a.wav"]["language"]) == ("own", "ana", "hr")
    assert (found["b.wav"]["license"], found["b.wav"]["speaker"]) == ("CC-BY-4.0", "boris")
    assert found["b.wav"]["source_url"] == "https://example.org/b" and found["b.wav"]["date"] == "2024-05-01"
    Path("t/ana/provenance.yaml").write_text("licence: own\n")
    govor("inventory", "t", "--resume", expect=1)
    assert "did you mean 'license'" in rows()["a.wav"]["error"]


@pytest.mark.parametrize(
    ("text", "encoding", "hint"),
    [
        ("Čiji je ćup? Žuti i šareni.", "cp1250", "cp1250"),
        ("שלום לכל הילדים הטובים", "cp1255", "cp1255"),
        ("sol mar pan", "utf-16-le", "utf-16-le"),
        ("sol mar pan", "utf-16-be", "utf-16-be"),
    ],
)
def test_old_encodings_are_named_and_can_be_stated(tmp_path: Path, text: str, encoding: str, hint: str) -> None:
    recording(tmp_path / "t" / "a.wav", text=text.encode(encoding))
    (row,) = inventory(Workspace(), [tmp_path / "t"], Statement(), "inline")
    assert row["error"].startswith("bad_transcript") and f"--encoding {hint}" in row["error"]
    (row,) = inventory(Workspace(), [tmp_path / "t"], Statement(encoding=encoding), "inline")
    assert row["transcript"] == text and row["error"] is None


def test_timed_transcripts_beside_a_recording_are_read(tmp_path: Path) -> None:
    audio = recording(tmp_path / "t" / "a.wav", text="<|0.00|> ano<|0.40|>")
    (row,) = inventory(Workspace(), [tmp_path / "t"], Statement("cs"), "inline")
    assert row["transcript"] == "ano" and row["segments"] == [{"start": 0.0, "end": 0.4, "text": "ano"}]
    audio.with_suffix(".srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nano ne\n")
    (row,) = inventory(Workspace(), [tmp_path / "t"], Statement("cs"), "inline")
    assert row["transcript"] == "ano ne" and row["segments"][0]["start"] == 0.1
    audio.with_suffix(".json").write_text('{"no": "transcript"}')
    (row,) = inventory(Workspace(), [tmp_path / "t"], Statement("cs"), "inline")
    assert row["transcript"] == "ano ne"


def test_balance_says_what_to_do() -> None:
    def corpus(speakers: list[str | None], **more: object) -> list[str]:
        counted = Balance()
        for number, speaker in enumerate(speakers):
            word = "".join(chr(97 + int(digit)) for digit in str(number))
            counted.see(Clip(f"c{number}", "a.wav", f"slovo {word} ano", 4.0, "cs", speaker=speaker, **more))  # type: ignore[arg-type]
        return counted.recommendations()

    assert "no speaker" in corpus([None] * 20)[0]
    assert "says 90% of the hours" in corpus(["a"] * 18 + ["b"] * 2)[0]
    assert any("1 voice" in line for line in corpus(["a"] * 20))
    assert "spread as if there were" in corpus(["a"] * 50 + ["b"] * 50 + [f"s{n}" for n in range(10)])[0]
    assert corpus([f"s{n % 20}" for n in range(100)], snr_db=18.0) == [
        "Nothing stands out: speakers, languages, lengths and noise are spread well."
    ]
    assert any("augmentation" in line for line in corpus([f"s{n % 20}" for n in range(100)], snr_db=45.0))
    assert any("listen to some" in line for line in corpus([f"s{n % 20}" for n in range(100)], snr_db=3.0))


def test_balance_writes_json_and_a_page(workspace: Path, govor: Run) -> None:
    make_corpus(workspace / "t", 12, speakers=3)
    govor("inventory", "t", "--language", "he", "--license", "own")
    govor("validate", "manifests/dataset_inventory.jsonl")
    govor("balance", "manifests/kept.jsonl")
    values = json.loads(Path("manifests/dataset_balance.json").read_text())
    assert values["clips"] == 12 and values["languages"].keys() == {"he"} and values["recommendations"]
    page = Path("reports/balance/kept.html").read_text()
    assert "What to do" in page and "<script" not in page
