"""Run folders: what a run is called, what is recorded of the machine it ran on, and its log."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from govor import files
from govor.errors import GovorError, disk_errors
from govor.files import exists, to_json

# Where scorings are kept, below the workspace.
EVALS = Path("manifests") / "evals"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "tokenizers",
    "safetensors",
    "jiwer",
    "soundfile",
    "soxr",
    "numpy",
)


def check_name(name: str) -> str:
    """A run's name becomes a folder, so only plain characters."""
    if not NAME.fullmatch(name):
        raise GovorError(f"'{name}' is no run name: letters, digits, '.', '_' and '-' are, up to 100 of them.")
    return name


def check_finished(run: Path) -> None:
    """Refuse a folder that is no finished run."""
    if not exists(run / "run_manifest.json"):
        raise GovorError(
            f"{run} is no finished run: run_manifest.json is missing. Train it, or go on with govor train … --resume."
        )


def check_checkpoint(checkpoint: Path) -> None:
    """Refuse a folder that is no whole checkpoint of its run."""
    if not exists(checkpoint / "state.json"):
        known = ", ".join(path.parent.name for path in sorted(checkpoint.parent.glob("*/state.json")))
        raise GovorError(f"{checkpoint.parent.parent} has no checkpoint '{checkpoint.name}'; there are: {known}.")


def plain_name(text: str) -> str:
    """A run name made of a file's: what may not stand in one becomes a hyphen."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-._")[:80] or "unnamed"


def now() -> str:
    """UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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
        found = json.loads(handle.read())
    except (OSError, ValueError):  # killed while it wrote, or about to write
        return {}
    return found if isinstance(found, dict) else {}


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


def environment() -> dict[str, Any]:
    """Versions, hardware and commit, for the record of a run."""
    import torch

    from govor import __version__

    return {
        "govor": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git_commit": _git_commit(),
    }


def memory_mb() -> float | None:
    """Peak resident memory of this process so far, in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024 * 1024), 1)


class JsonLines:
    """A log of one JSON object per line, flushed line by line; appended to on resume."""

    def __init__(self, path: Path, keep_until_step: int | None = None) -> None:
        """With `keep_until_step`, lines of later steps are cut first: a resumed run writes them again."""
        with disk_errors(path, "the log"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if keep_until_step is not None and path.exists():
                _truncate(path, keep_until_step)
            self._handle: IO[str] = path.open("a", encoding="utf-8")
        self._path = path

    def write(self, **values: Any) -> None:
        """Append one line."""
        with disk_errors(self._path, "the log"):
            self._handle.write(to_json(values) + "\n")
            self._handle.flush()

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


class RunLog:
    """`logs/training/<run>.log`: every line with timestamp, stage and the run's request_id."""

    def __init__(self, run: str, stage: str) -> None:
        self._lines = JsonLines(Path("logs") / "training" / f"{run}.log")
        self._fixed = {"request_id": uuid.uuid4().hex[:16], "run": run, "stage": stage}

    def write(self, message: str, **values: Any) -> None:
        """One event."""
        self._lines.write(timestamp=now(), **self._fixed, message=message, **values)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _truncate(path: Path, step: int) -> None:
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that was being written when the run was killed
        if row.get("step", 0) <= step:
            kept.append(line)
    files.write_text(path, "".join(line + "\n" for line in kept))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
