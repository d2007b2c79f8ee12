"""The inventory: what changed is read again and nothing else, every statement beside a recording counts."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import soundfile

from conftest import make_corpus, speech
from govor.corpus.balance import Balance
from govor.corpus.inventory import COLUMNS, Statement, inventory
from govor.corpus.manifests import read_rows, write_rows
from govor.corpus.records import Clip
from govor.corpus.validate import Checks, Limits, validate
from govor.runs import Workspace
from messy import voice
from rows import lines, row

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


def test_an_old_inventory_that_is_no_inventory_is_passed_over(workspace: Path, govor: Run) -> None:
    Path("t").mkdir()
    soundfile.write("t/x.wav", voice(1), 16_000)
    Path("manifests").mkdir()
    Path("manifests/.dataset_inventory.jsonl.partial").write_bytes(b'5\n{"id": 1}\n\xff\xfe\n')
    govor("inventory", "t", "--resume")


def test_a_pipe_is_no_recording(workspace: Path, govor: Run) -> None:
    import os

    os.mkfifo("a.wav")
    lines("m.jsonl", row("a"))
    assert "unreadable" in govor("validate", "m.jsonl", expect=2).stderr


def messy(folder: Path) -> Path:
    """Sound clips and one of each trouble."""
    make_corpus(folder, 12, speakers=3)
    bad = folder / "bad"
    bad.mkdir()
    sound = speech(["sol", "mar", "pan"], seconds=1.5)

    def clip(name: str, samples: np.ndarray, text: str | None = "sol mar pan", **options: Any) -> Path:
        path = bad / name
        soundfile.write(path, samples, 16_000, **options)
        if text is not None:
            path.with_suffix(".txt").write_text(text)
        return path

    (bad / "text.wav").write_text("no audio")
    (bad / "zero.wav").write_bytes(b"")
    clip("silent.wav", np.zeros(16_000, np.float32))
    clip("short.wav", sound[:3000])
    clip("long.flac", np.tile(sound, 25))
    clip("untold.wav", speech(["vid"], seconds=1.0), None)
    clip("blank.wav", speech(["zem"], seconds=1.0), "  \n")
    clip("clipped.wav", np.clip(sound * 40, -1, 1))
    clip("chatty.wav", speech(["pan"], seconds=1.0), "word " * 40)
    clip("nan.wav", np.full(16_000, np.nan, np.float32), subtype="FLOAT")
    twin = next(folder.glob("speaker0/*.wav"))
    (bad / "twin.wav").write_bytes(twin.read_bytes())
    (bad / "twin.txt").write_text("a copy")
    samples, rate = soundfile.read(next(folder.glob("speaker1/*.wav")), dtype="int16")
    soundfile.write(bad / "same.flac", samples, rate)
    (bad / "same.txt").write_text("the same samples as flac")
    cut = clip("cut.mp3", np.tile(sound, 4))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 3])
    (bad / "latin1.wav").write_bytes((bad / "untold.wav").read_bytes())
    (bad / "latin1.txt").write_bytes("Čačak".encode("cp1250"))
    return folder


def run_validate(rows: list[dict[str, Any]], **limits: Any) -> tuple[list[Clip], list[dict[str, Any]], dict[str, Any]]:
    kept: list[Clip] = []
    dropped: list[dict[str, Any]] = []
    report = {}
    for running in validate(
        Workspace(), rows, Checks(Limits(**limits)), kept.append, dropped.append, engine_name="inline"
    ):
        report = running.as_dict()
    return kept, dropped, report


def test_processes_give_what_one_gives(tmp_path: Path) -> None:
    folder = messy(tmp_path / "set")
    assert list(inventory(Workspace(), [folder], Statement("cs"), "processes")) == list(
        inventory(Workspace(), [folder], Statement("cs"), "inline")
    )


def test_the_inventory_marks_duplicates_and_unreadable_files(tmp_path: Path) -> None:
    rows = {
        Path(row["audio"]).name: row for row in inventory(Workspace(), [messy(tmp_path / "set")], Statement(), "inline")
    }
    assert rows["text.wav"]["error"].startswith("unreadable") and rows["text.wav"]["duration"] is None
    twin = rows["twin.wav"]
    original = next(row for row in rows.values() if row["sha256"] == twin["sha256"] and row is not twin)
    assert {twin["duplicate"], original["duplicate"]} == {True, False}
    assert twin["duplicate_of"] == original["id"] or original["duplicate_of"] == twin["id"]


def test_sub_folders_are_the_guessed_source_only_below_what_all_share(tmp_path: Path) -> None:
    deep = make_corpus(tmp_path / "set" / "wavs" / "all", 3, speakers=1)
    rows = list(inventory(Workspace(), [tmp_path / "set"], Statement("cs"), "inline"))
    assert len({row["source"] for row in rows}) == 3, f"all lie in {deep}, which tells nothing"
    make_corpus(tmp_path / "two", 6, speakers=2)
    assert len({row["source"] for row in inventory(Workspace(), [tmp_path / "two"], Statement("cs"), "inline")}) == 2


def test_strange_names_survive(tmp_path: Path) -> None:
    import os

    names = [b"a b.wav", b"new\nline.wav", "\u202eabc.wav".encode(), b"latin1-\xe8.wav", b"-dash.wav"]
    samples = {name: speech(["sol", "mar"], seconds=1.0, seed=i) for i, name in enumerate(names)}
    for name, audio in samples.items():
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/set/" + name))
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as handle:
            soundfile.write(handle, audio, 16_000, format="WAV")
        path.with_suffix(".txt").write_text("sol mar")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "gone.wav").symlink_to(tmp_path / "nowhere")
    rows = list(inventory(Workspace(), [tmp_path / "set"], Statement("cs"), "inline"))
    write_rows(tmp_path / "inventory.jsonl", rows)
    from govor.corpus.manifests import read_rows

    rows = [row for _, row in read_rows(tmp_path / "inventory.jsonl")]
    kept, dropped, _ = run_validate(rows, near_duplicates="off")  # they all say the same in the same tones
    assert len(kept) == len(names)
    assert [Path(row["row"]["audio"]).name for row in dropped] == ["gone.wav"]


def recorded(folder: Path, name: str = "a.wav", seconds: float = 1.0, **beside: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    audio = folder / name
    soundfile.write(audio, voice(len(name), seconds), 16_000, format="WAV")
    for suffix, text in beside.items():
        audio.with_suffix(f".{suffix}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return audio


def row_of(folder: Path) -> dict:
    (row,) = inventory(Workspace(), [folder], Statement("cs"), "inline")
    return row


def test_a_manifest_of_a_folder_says_what_an_inventory_says(workspace: Path, govor: Run) -> None:
    """[A4, O14]"""
    recorded(Path("d"), "a.wav", txt="Fata: Dobar dan.\nMujo: Dobro.\n")
    Path("d/zapis.docx").write_text("x")
    said = govor("manifest", "d", "--language", "bs").stderr
    assert "1 Fata, 1 Mujo" in said and "1 .docx" in said


def test_what_is_passed_over_is_counted(workspace: Path, govor: Run) -> None:
    recorded(Path("t"), txt="ano")
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
