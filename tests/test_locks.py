"""One process at a time works in a run (T05)."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import recipe_of
from govor import files, locks
from govor.errors import GovorError

Run = Callable[..., subprocess.CompletedProcess[str]]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


HOLD = "import sys, time\nfrom pathlib import Path\nfrom govor import locks\nwith locks.held(Path(sys.argv[1]), 'trained'):\n    print('held', flush=True)\n    time.sleep(60)\n"


def test_a_run_that_another_process_holds_is_refused_and_taken_over_when_that_is_killed(workspace: Path) -> None:
    run = workspace / "models/whisper/toy"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    sentence = rf"is being trained by process {holder.pid} on {platform.node()} since 20\d\d-"
    with pytest.raises(GovorError, match=sentence), locks.held(run, "packaged"):
        pass
    holder.kill()
    holder.wait()
    with locks.held(run, "packaged"):
        assert json.loads((run.parent / ".toy.lock").read_text())["pid"] == os.getpid()
        with pytest.raises(GovorError, match="already"), locks.held(run, "packaged"):
            pass
    assert not leftovers(workspace)


def test_a_link_and_what_it_leads_to_are_one_run(workspace: Path) -> None:
    (workspace / "far/toy").mkdir(parents=True)
    (workspace / "models/whisper").mkdir(parents=True)
    link = workspace / "models/whisper/toy"
    link.symlink_to(workspace / "far/toy")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(link)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        for name in (link, workspace / "far/toy"):
            with pytest.raises(GovorError, match=f"process {holder.pid}"), locks.held(name, "packaged"):
                pass
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize(
    ("change", "free"),
    [
        ({}, True),  # of this start of this machine: whoever it was has lost the system's lock
        ({"boot": "earlier"}, True),  # of this machine before it was started anew
        ({"host": "elsewhere", "boot": "other"}, False),
    ],
)
def test_stale_locks_are_recognised(workspace: Path, change: dict[str, str], free: bool) -> None:
    held = {"doing": "trained", "pid": a_dead_process(), "host": platform.node(), "since": "2026-01-01T00:00:00+00:00"}
    held |= {"boot": files.boot(), "machine": files.machine(), "started": 1, **change}
    lock = workspace / ".toy.lock"
    lock.write_text(json.dumps(held))
    if free:
        with locks.held(workspace / "toy", "trained"):
            pass
        assert not lock.exists()
    else:
        with pytest.raises(GovorError, match=r"on elsewhere since .*; if that no longer runs, delete .*\.toy\.lock"):
            locks.held(workspace / "toy", "trained").__enter__()


@pytest.mark.parametrize("alive", [True, False])
def test_without_locks_of_the_system_the_process_itself_is_looked_for(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    monkeypatch.setattr(locks, "_lock", lambda handle: None)
    pid = os.getppid() if alive else a_dead_process()
    held = {"doing": "trained", "pid": pid, "host": platform.node(), "since": "then", "boot": files.boot()}
    held |= {"machine": files.machine(), "started": files.started(os.getppid())}
    (workspace / ".toy.lock").write_text(json.dumps(held))
    if alive:
        with pytest.raises(GovorError, match=f"process {pid} on"):
            locks.held(workspace / "toy", "trained").__enter__()
    else:
        with locks.held(workspace / "toy", "trained"):
            pass


def test_two_trainings_of_one_name(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    file = recipe_of(workspace, tiny_folder)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, "models/whisper/toy"], stdout=subprocess.PIPE, text=True, cwd=workspace
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        for options in ([], ["--overwrite"], ["--resume"]):
            done = govor("train", file, "--device", "cpu", *options, expect=2)
            assert f"is being trained by process {holder.pid}" in done.stderr and "Traceback" not in done.stderr
    finally:
        holder.kill()
        holder.wait()
