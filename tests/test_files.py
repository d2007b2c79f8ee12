"""Files are written whole or not at all, and what the dead left is swept (H7)."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from govor import files, jsons


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left_by(folder: Path, name: str, pid: int, started: int, kind: str = "tmp", machine: str | None = None) -> Path:
    path = folder / f".{name}.{machine or files.machine()}-{pid}-{started}-abcd.{kind}"
    path.write_text("half")
    return path


def test_what_the_dead_left_is_swept_and_what_the_living_write_is_not(workspace: Path) -> None:
    dead, me = a_dead_process(), os.getpid()
    gone = [
        left_by(workspace, "best.json", dead, 1),
        left_by(workspace, "ct2", me, files.started(me) + 1),
    ]  # number reused
    stays = [
        left_by(workspace, "best.json", me, files.started(me)),
        left_by(workspace, "x.json", 1234, 99, machine="0123abcd"),
        workspace / ".best.json.12345678.tmp",
    ]
    stays[-1].write_text("of an earlier version")
    jsons.write_json(workspace / "any.json", {})
    assert not [path for path in gone if path.exists()] and all(path.exists() for path in stays)
    files.sweep(workspace, alone=True)
    assert [path.exists() for path in stays] == [True, False, False]
    old = left_by(workspace, "x.json", 1234, 99, machine="0123abcd")
    os.utime(old, (1, 1))
    files.sweep(workspace)
    assert not old.exists(), "nobody writes for days"


def test_a_folder_that_was_to_give_way_comes_back_when_its_writer_was_killed_between_two_renames(
    workspace: Path,
) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom govor import files\n"
        "plain, count = Path.rename, int(sys.argv[1])\n"
        "def rename(self, target):\n"
        "    global count\n"
        "    count -= 1\n"
        "    if count < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(self, target)\n"
        "Path.rename = rename\n"
        "with files.atomic_folder(Path('report'), 'the report', replace=True) as folder:\n"
        "    (folder / 'page').write_text('new')\n"
    )
    for renames, expected in ((0, "old"), (1, "old"), (2, "new")):
        shutil.rmtree("report", ignore_errors=True)
        Path("report").mkdir()
        Path("report/page").write_text("old")
        ended = subprocess.run([sys.executable, "-c", code, str(renames)], check=False)
        assert ended.returncode == (0 if renames == 2 else -signal.SIGKILL)
        files.sweep(workspace)
        assert Path("report/page").read_text() == expected
        assert not leftovers(workspace)


def test_a_link_gives_way_as_a_link(workspace: Path) -> None:
    (workspace / "far").mkdir()
    (workspace / "far/page").write_text("old")
    (workspace / "report").symlink_to("far")
    (workspace / "dangling").symlink_to("nowhere")
    for name in ("report", "dangling"):
        with files.atomic_folder(workspace / name, "the report", replace=True) as folder:
            (folder / "page").write_text("new")
        assert (workspace / name / "page").read_text() == "new" and not (workspace / name).is_symlink()
    assert (workspace / "far/page").read_text() == "old" and not leftovers(workspace)


def test_long_names_have_room_for_a_temporary_one(workspace: Path) -> None:
    name = "ш" * 120 + ".json"  # 245 bytes of 255
    jsons.write_json(workspace / name, {"a": 1})
    assert jsons.read_json(workspace / name) == {"a": 1} and not leftovers(workspace)
