"""Trackers really run, without a network, and their files are read back; a failing one never ends a training."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from govor.errors import GovorError
from govor.finetune import track
from govor.finetune.track import TRACKERS, Trackers, check_installed

SENTINEL = "sentinel" * 5  # of the length of a key
SETTINGS = {"name": "toy", "finetune": {"lr": 1e-5, "layers": [1, 2], "max_steps": None, "rslora": True}}


@pytest.fixture(autouse=True)
def nobody_is_logged_in(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(workspace / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_API_KEY", "TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)


def wanted(name: str) -> None:
    if not track._installed(name):
        pytest.skip(f'{name} is not installed (pip install "govor[track]")')


def start(*names: str, folder: str = "tracking", **more: Any) -> tuple[Trackers, list[str]]:
    notes: list[str] = []
    return Trackers(names, "govor-tests", "toy", Path(folder), SETTINGS, notes.append, **more), notes


def own_process() -> dict[str, str]:
    """The environment of a process that chooses wandb's mode itself and does not share our wandb service."""
    return {name: value for name, value in os.environ.items() if name not in ("WANDB_MODE", "WANDB_SERVICE")}


def run_twice(name: str) -> None:
    """Three steps, then a resumed run that repeats the third."""
    trackers, _ = start(name)
    trackers.log(0, {"validation/loss": 3.0, "validation/wer.knesset": None})
    trackers.log(1, {"train/loss": 2.5, "lr/encoder.top8": 1e-5})
    trackers.note(1, "phase 2: all weights train")
    trackers.note(1, "checkpoint step-000001")
    trackers.log(2, {"train/loss": 2.0})
    trackers.close()
    resumed, _ = start(name, done=1)
    resumed.log(2, {"train/loss": 2.0})
    resumed.log(3, {"train/loss": 1.5, "validation/wer.knesset": 0.25})
    resumed.close()


def test_tensorboard_reads_back_what_was_logged() -> None:
    wanted("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    run_twice("tensorboard")
    events = EventAccumulator("tracking/tensorboard", size_guidance={"tensors": 0})
    events.Reload()

    def curve(name: str) -> list[tuple[int, float]]:
        return [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]

    assert curve("train/loss") == [(1, 2.5), (2, 2.0), (3, 1.5)]
    assert curve("lr/encoder.top8") == [(1, 1e-5)]
    assert curve("validation/loss") == [(0, 3.0)]
    assert curve("validation/wer.knesset") == [(3, 0.25)]
    notes = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("note/text_summary")]
    assert notes == ["phase 2: all weights train", "checkpoint step-000001"]
    content = events.PluginTagToContent(metadata.PLUGIN_NAME)[metadata.SESSION_START_INFO_TAG]
    recorded = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert recorded["finetune.lr"].number_value == 1e-5 and recorded["finetune.layers"].string_value == "[1, 2]"


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log format (blocks of 32 KiB) behind seven bytes of header."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, held = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32_768 - at % 32_768 < 7:
            at += 32_768 - at % 32_768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        held += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(held)
            held = b""


def test_wandb_offline_reads_back_what_was_logged() -> None:
    wanted("wandb")
    run_twice("wandb")
    folders = sorted(Path("tracking/wandb").glob("offline-run-*"))
    assert len(folders) == 2, "one for each start, within one second too"
    records = [record for folder in folders for file in folder.glob("*.wandb") for record in wandb_records(file)]
    rows: dict[int, dict[str, Any]] = {}
    for record in records:
        if record.HasField("history"):
            items = {(item.key or ".".join(item.nested_key)): item.value_json for item in record.history.item}
            row = {name: json.loads(value) for name, value in items.items()}
            rows.setdefault(record.history.step.num, {}).update({k: v for k, v in row.items() if k[0] != "_"})
    assert rows == {
        0: {"validation/loss": 3.0},
        1: {
            "train/loss": 2.5,
            "lr/encoder.top8": 1e-5,
            "note": "phase 2: all weights train; checkpoint step-000001",
        },
        2: {"train/loss": 2.0},
        3: {"train/loss": 1.5, "validation/wer.knesset": 0.25},
    }
    runs = [record.run for record in records if record.HasField("run")]
    assert {run.run_id for run in runs} == {Path("tracking/wandb/run_id.txt").read_text().strip()}
    assert {(run.project, run.display_name) for run in runs} == {("govor-tests", "toy")}
    config = {update.key: update.value_json for run in runs for update in run.config.update}
    assert json.loads(config["finetune"]) == SETTINGS["finetune"]


def test_trackio_reads_back_what_was_logged() -> None:
    wanted("trackio")
    run_twice("trackio")
    trackio = track._import_trackio(Path("tracking/trackio").absolute())
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = trackio.Api().runs("govor-tests")
    points = {
        (row["step"], name, value)
        for row in SQLiteStorage.get_logs("govor-tests", "toy")
        for name, value in row.items()
        if "/" in name
    }
    assert points == {
        (0, "validation/loss", 3.0),
        (1, "train/loss", 2.5),
        (1, "lr/encoder.top8", 1e-5),
        (2, "train/loss", 2.0),
        (3, "train/loss", 1.5),
        (3, "validation/wer.knesset", 0.25),
    }
    assert run.name == "toy" and run.config["finetune"] == SETTINGS["finetune"]
    notes = {alert["title"]: (alert["level"], alert["step"]) for alert in run.alerts()}
    assert notes == {"phase 2: all weights train": ("info", 1), "checkpoint step-000001": ("info", 1)}


def test_a_second_run_of_the_process_has_its_own_files() -> None:
    wanted("trackio")
    for folder in ("first", "second"):
        trackers, _ = start("trackio", folder=folder)
        trackers.log(1, {"train/loss": 1.0})
        trackers.close()
    assert Path("first/trackio/govor-tests.db").exists() and Path("second/trackio/govor-tests.db").exists()
    assert "TRACKIO_DIR" not in os.environ


def test_no_key_is_written_or_printed_and_nothing_lies_outside_the_folder(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in TRACKERS:
        wanted(name)
    monkeypatch.setenv("WANDB_API_KEY", SENTINEL)
    trackers, notes = start(*TRACKERS)
    trackers.log(1, {"train/loss": 1.0})
    trackers.note(1, "checkpoint")
    trackers.close()
    printed = capfd.readouterr()
    assert not printed.out and not printed.err
    assert len(notes) == 3 and SENTINEL not in "".join(notes)
    files = [file for file in Path("tracking").rglob("*") if file.is_file()]
    assert {file.relative_to("tracking").parts[0] for file in files} == set(TRACKERS)
    assert not [file for file in files if SENTINEL.encode() in file.read_bytes()]
    assert {path.name for path in workspace.iterdir()} <= {"tracking", "home"}


def test_wandb_without_its_server_goes_on_offline() -> None:
    wanted("wandb")
    code = """
from pathlib import Path
from govor.finetune import track
track._START_SECONDS = 2.0
trackers = track.Trackers(["wandb"], "govor-tests", "toy", Path("tracking"), {}, print)
trackers.log(1, {"train/loss": 1.0})
trackers.close()
"""
    environment = own_process() | {"WANDB_API_KEY": SENTINEL, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wandb: no connection (CommError), so this run is kept offline; wandb sync /")
    assert SENTINEL not in done.stdout + done.stderr
    assert list(Path("tracking").rglob("offline-run-*/*.wandb"))


def test_nobody_logged_in_means_offline() -> None:
    wanted("wandb")
    code = "import wandb\nfrom govor.finetune.track import _wandb_mode\nprint(_wandb_mode(wandb))"
    done = subprocess.run([sys.executable, "-c", code], env=own_process(), capture_output=True, text=True, timeout=120)
    assert done.stdout == "offline\n", done.stderr


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (
            ["trackio"],
            r"Tracking with trackio was asked for and it is not installed; run pip install \"govor\[track\]\"",
        ),
        (["wandb", "trackio"], "Tracking with wandb, trackio was asked for and they are not installed"),
    ],
)
def test_a_missing_package_is_refused_in_one_sentence(
    missing: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "_installed", lambda name: name not in missing)
    with pytest.raises(GovorError, match=sentence):
        check_installed(TRACKERS)


def test_a_folder_of_the_same_name_is_no_package(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "no_such_tracker").mkdir()
    monkeypatch.syspath_prepend(str(workspace))
    with pytest.raises(GovorError, match="no_such_tracker"):
        check_installed(["no_such_tracker"])


def test_no_tracker_is_no_work() -> None:
    trackers, notes = start()
    trackers.log(1, {"train/loss": 1.0})
    trackers.close()
    assert not notes and not Path("tracking").exists()


class Fake:
    where = "nowhere"

    def __init__(self, *_: object) -> None:
        self.seen: list[object] = []

    def log(self, step: int, values: dict[str, float]) -> None:
        self.seen.append((step, values))

    def note(self, step: int, text: str) -> None:
        self.seen.append((step, text))

    def close(self) -> None:
        self.seen.append("closed")


class Failing(Fake):
    def log(self, step: int, values: dict[str, float]) -> None:
        super().log(step, values)
        raise ConnectionResetError("Connection lost\nmore")


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> tuple[Fake, Fake]:
    failing, sound = Failing(), Fake()
    monkeypatch.setattr(track, "_installed", lambda name: True)
    monkeypatch.setattr(track, "_STARTS", {"wandb": lambda *_: failing, "trackio": lambda *_: sound})
    return failing, sound


def test_a_failing_tracker_is_noted_once_and_left_out(two: tuple[Fake, Fake]) -> None:
    trackers, notes = start("wandb", "trackio")
    for step in (1, 2):
        trackers.log(step, {"train/loss": 1.0})
    trackers.close()
    assert notes[2:] == [
        "wandb failed (ConnectionResetError: Connection lost) and is left out from here; training goes on, "
        "metrics.jsonl has all"
    ]
    assert two[0].seen == [(1, {"train/loss": 1.0})]
    assert two[1].seen == [(1, {"train/loss": 1.0}), (2, {"train/loss": 1.0}), "closed"]


def test_a_tracker_that_does_not_start_is_refused_and_the_others_are_closed(
    two: tuple[Fake, Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Fake:
        raise ValueError("Project name 'x_system' is not allowed")

    monkeypatch.setitem(track._STARTS, "wandb", broken)
    with pytest.raises(GovorError, match=r"wandb does not start \(ValueError: Project name"):
        start("trackio", "wandb")
    assert two[1].seen == ["closed"]


def test_a_full_disk_does_not_end_a_training() -> None:
    pytest.importorskip("resource", reason="limits on file sizes need a POSIX system")
    wanted("tensorboard")
    wanted("trackio")
    code = """
import resource
from pathlib import Path
from govor.finetune.track import Trackers
notes = []
trackers = Trackers(["tensorboard", "trackio"], "govor-tests", "toy", Path("tracking"), {}, notes.append)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for step in range(2000):
    trackers.log(step, {"train/loss": 1.0, "a/rather/long/name" * 9: 2.0})
trackers.close()
print(*notes[2:], sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and done.stdout.startswith("tensorboard failed (OSError: [Errno 27]")
    assert "trackio failed to" in done.stderr  # it goes on by itself, and warns once
