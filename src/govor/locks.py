"""One process at a run at a time: a lock beside its folder, which the system lets go of when its holder dies."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from govor import files
from govor.errors import GovorError, disk_errors
from govor.jsons import to_json
from govor.machine import now


@contextmanager
def held(run: Path, doing: str) -> Iterator[None]:
    """Keep a run's folder for this process while the block runs: `doing` is trained, averaged or packaged.

    What a killed process held is taken over, with its leftovers swept. The lock stands beside the folder, and beside what
    it leads to where it is a link.

    Raises:
        GovorError: another process is at it.
    """
    if run in _HELD:
        raise GovorError(f"{run} is already being used by this process.")
    with ExitStack() as stack:
        for folder in dict.fromkeys((run.parent.resolve() / run.name, run.resolve())):
            stack.enter_context(_locked(folder, run, doing))
        for folder in (run, run / "checkpoints"):
            files.sweep(folder, alone=True)
        _HELD.add(run)
        stack.callback(_HELD.discard, run)
        yield


_HELD: set[Path] = set()  # by this process: the system's locks do not hold a process back from itself


@contextmanager
def _locked(folder: Path, run: Path, doing: str) -> Iterator[None]:
    lock = folder.with_name(f".{folder.name}.lock")
    new = [place for place in lock.parents if not place.exists()]
    mine = {"doing": doing, "pid": os.getpid(), "host": platform.node(), "since": now()}
    mine |= {"boot": files.boot(), "machine": files.machine(), "started": files.started(os.getpid())}
    with disk_errors(run, "the run"):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = _taken(lock, run)
        handle.seek(0)
        handle.truncate()
        handle.write(to_json(mine) + "\n")
        handle.flush()
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        handle.close()
        for place in new:  # where nothing came of it
            with suppress(OSError):
                place.rmdir()


def _taken(lock: Path, run: Path) -> IO[str]:
    """The lock's file, held by this process alone. The system lets go of it when a process dies, however it dies."""
    while True:
        handle = os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8")
        try:
            certain = _lock(handle)
            if not _same_file(handle, lock):  # its holder has just let go and deleted it
                handle.close()
                continue
            holder = _holder(handle)
            if certain is False or (holder and not _over(holder, certain)):
                raise _occupied(lock, run, holder)
        except BaseException:
            handle.close()
            raise
        return handle


def _lock(handle: IO[str]) -> bool | None:
    """Whether the system gave this process the file; None where it has no such locks. A record lock and not flock: a
    worker that outlives its killed parent would keep that one."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _same_file(handle: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: IO[str]) -> dict[str, Any]:
    try:
        holder = json.loads(handle.read())
    except (OSError, ValueError):  # killed while it wrote, or about to write
        return {}
    return holder if isinstance(holder, dict) else {}


def _over(holder: dict[str, Any], certain: bool | None) -> bool:
    """Whether whom the lock names has ended. Within one start of one machine that can be known, of others not."""
    if certain is False:
        return False
    same_host = holder.get("host") == platform.node()
    same_start = holder.get("boot") == files.boot() and (same_host or files.boot() is not None)
    if certain and same_start:
        return True  # whatever runs under that number now
    if same_start and holder.get("machine") == files.machine():
        return not files.runs(int(holder["pid"]), int(holder["started"]))
    return not same_start and same_host  # the machine was started anew


def _occupied(lock: Path, run: Path, holder: dict[str, Any]) -> GovorError:
    if not holder:
        return GovorError(f"{run} is being used by another process, which holds {lock}; wait until it has ended.")
    who = f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"
    elsewhere = holder.get("boot") != files.boot()
    end = f"; if that no longer runs, delete {lock}" if elsewhere else ""
    return GovorError(
        f"{run} is being {holder.get('doing')} by {who}; wait until it has ended, or take another run or name{end}."
    )
