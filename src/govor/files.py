"""Files that are either whole or not there: written under a temporary name, flushed, renamed.

A temporary name tells who writes there, so that what a killed process left behind is swept by the next one that writes
into the same folder, and what a living one is writing is not.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TextIO

from govor.errors import GovorError, disk_errors

# Settings and records are far smaller; what is not is damaged or meant to harm.
MOST_TEXT_BYTES = 64 << 20
# `.NAME.MACHINE-PID-STARTED-RANDOM.tmp` is being written; `.old` gives way to what is being put in its place.
_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)-[0-9a-f]{4}\.(tmp|old|aside)"
)
_UNOWNED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.tmp")  # of earlier versions, which named no writer
_LONGEST_NAME_BYTES = 200  # of 255 that file systems take, so that a temporary name fits as well
_LONGEST_WRITE_SECONDS = 24 * 3600.0  # what nobody known has written for so long is a leftover
_swept: set[str] = set()


@contextmanager
def atomic_file(path: Path, errors: str = "backslashreplace") -> Iterator[TextIO]:
    """A text file that appears under its name only when the block ends without an error.

    A file name that is not UTF-8 holds lone surrogates; escaped, as by default, they are valid JSON and find the file again.
    """
    with disk_errors(path, path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(path)
        try:
            with temporary.open("w", encoding="utf-8", errors=errors, newline="\n") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` whole or not at all."""
    with atomic_file(path) as handle:
        handle.write(text)


def check_ordinary(path: Path) -> os.stat_result:
    """The state of an ordinary file; a pipe would be waited for without end.

    Raises:
        GovorError: a folder, pipe, socket or device, or none.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        raise GovorError(f"{path} was not found.") from None
    except (OSError, ValueError) as error:
        raise GovorError(f"{shortened(path)} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if stat.S_ISDIR(state.st_mode):
        raise GovorError(f"{path} is a folder; a file was wanted.")
    if not stat.S_ISREG(state.st_mode):
        raise GovorError(f"{path} is a pipe, socket or device; an ordinary file was wanted, so save it as one.")
    return state


def exists(path: Path) -> bool:
    """Whether something is there under a name; one that the file system cannot have is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_text(path: Path, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The text of an ordinary UTF-8 file, with or without a byte-order mark.

    Raises:
        GovorError: it cannot be read, is larger than `most_bytes`, or is not UTF-8.
    """
    size = check_ordinary(path).st_size
    if size > most_bytes:
        raise GovorError(f"{path} has {size:,} bytes, and at most {most_bytes:,} were expected; is it the right file?")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GovorError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    except OSError as error:
        raise GovorError(f"{path} cannot be read: {error.strerror}.") from None


def shortened(value: object, most: int = 120) -> str:
    """How a value from outside stands in a message."""
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


@contextmanager
def atomic_folder(path: Path, what: str, replace: bool = False, shared: bool = False) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends without an error.

    With `replace`, an existing folder gives way at the end, not before. A link gives way as a link: what it leads to stays.
    With `shared`, the folder is the same whoever makes it: where another process was faster, its folder stays.
    """
    with disk_errors(path, what):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(path)
        temporary.mkdir()
        try:
            yield temporary
            # Some libraries write for the owner alone (safetensors: 0600); what the umask lets others read is theirs too.
            ours = temporary.stat().st_mode
            for file in temporary.rglob("*"):
                if not file.is_symlink():
                    file.chmod(file.stat().st_mode | (ours & (0o777 if file.is_dir() else 0o666)))
                if file.is_file():
                    fsync(file)
            try:
                put_in_place(temporary, path, replace)
            except OSError:
                if not (shared and path.is_dir()):
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(new: Path, path: Path, replace: bool = True) -> None:
    """Give a whole file or folder its name; what had it before is deleted only then.

    Killed in between, the next process that writes there brings the old one back (`sweep`).
    """
    if not (replace and os.path.lexists(path)):
        new.rename(path)
    elif new.is_dir():
        old = beside(path, "old")
        path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            old.rename(path)
            raise
        remove(old)
    else:
        new.replace(path)
    fsync(path.parent)


def remove(path: Path) -> None:
    """Delete a file, a folder or a link, as far as that is permitted; never what a link leads to."""
    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def fsync(path: Path) -> None:
    """Flush a file or folder to the disk (folders only where the system allows it)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_existing(path: Path, overwrite: bool, remedy: str = "--overwrite to replace it, or another --out") -> None:
    """Existing results are never replaced unasked."""
    if not overwrite and path.exists() and (path.is_file() or any(path.iterdir())):
        raise GovorError(f"{path} already exists; give {remedy}.")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """Hex sha256 over text lines."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "backslashreplace") + b"\n")
    return digest.hexdigest()


def beside(path: Path, kind: str = "tmp") -> Path:
    """A temporary name in the folder of `path` that tells who writes there; leftovers in that folder are swept first."""
    folder = os.path.abspath(path.parent)  # noqa: PTH100  (resolve() would follow the user's links)
    if folder not in _swept:
        _swept.add(folder)
        sweep(path.parent)
    name = path.name.encode("utf-8", "surrogateescape")[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore")
    pid = os.getpid()
    return path.with_name(f".{name}.{machine()}-{pid}-{started(pid)}-{uuid.uuid4().hex[:4]}.{kind}")


def temporary_name_of(path: Path) -> str | None:
    """What a temporary name stands for; None where it is none."""
    match = _TEMPORARY.fullmatch(path.name)
    return match["name"] if match else None


def sweep(folder: Path, alone: bool = False) -> None:
    """Delete what killed processes left half written in `folder`, and bring back what they had set aside.

    What another machine may be writing is left for a day; with `alone` nobody else can be writing there.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            match = _TEMPORARY.fullmatch(path.name) or _UNOWNED.fullmatch(path.name)
            if not match or path.suffix == ".aside":  # a run, which its lock guards
                continue
            owner = match.groupdict()
            here = owner.get("machine") == machine()
            if here and runs(int(owner["pid"]), int(owner["started"])):
                continue
            with suppress(OSError):
                if not (here or alone or time.time() - path.lstat().st_mtime > _LONGEST_WRITE_SECONDS):
                    continue
                place = path.with_name(owner["name"])
                if path.name.endswith(".old") and not os.path.lexists(place):
                    path.rename(place)
                else:
                    remove(path)


@cache
def machine() -> str:
    """Tells machines apart, and starts of one machine, and containers: numbers of processes count within one of these."""
    parts = [platform.node(), boot() or ""]
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return sha256_of_lines(parts)[:8]


@cache
def boot() -> str | None:
    """Names this start of this machine, the same in all its containers; None where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def started(pid: int) -> int:
    """When a process of this machine began, in ticks of its clock; 0 where that cannot be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])  # a zombie writes no more
    except (OSError, ValueError, IndexError):
        return 0


def runs(pid: int, since: int) -> bool:
    """Whether the process `pid` that began at `since` still runs here, and not another that was given its number."""
    if Path("/proc/self/stat").exists():
        return since != 0 and started(pid) == since
    if os.name == "nt":
        return True  # there is no harmless way to ask
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
