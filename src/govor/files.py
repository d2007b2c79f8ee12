"""Files that are either whole or not there: written under a temporary name, flushed, renamed.

A temporary name tells who writes there, so that what a killed process left behind is swept by the next one that writes
into the same folder, and what a living one is writing is not.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from govor.errors import GovorError, disk_errors

# Settings and records are far smaller; what is not is damaged or meant to harm.
MOST_TEXT_BYTES = 64 << 20
# Deeper than any record: a recursion of ours over one that lies deeper would end in a traceback.
MOST_DEPTH = 64
# `.NAME.MACHINE-PID-STARTED-RANDOM.tmp` is being written; `.old` gives way to what is being put in its place.
_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)-[0-9a-f]{4}\.(tmp|old|aside)"
)
_UNOWNED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.tmp")  # of earlier versions, which named no writer
_LONGEST_NAME_BYTES = 200  # of 255 that file systems take, so that a temporary name fits as well
_LONGEST_WRITE_SECONDS = 24 * 3600.0  # what nobody known has written for so long is a leftover
_swept: set[str] = set()


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in UTF-8 letters; a NaN or infinity is a bug of ours and raises ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


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


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, to_json(value, indent=2) + "\n")


class MissingKeyError(GovorError, LookupError):
    """A record lacks a key. Templates, which may ask whether there is one, know it as a failed look-up."""


class Record(dict[str, Any]):
    """A JSON object of a file; a key that is asked for and is not there is one sentence."""

    where = ""

    def __missing__(self, key: str) -> Any:
        raise MissingKeyError(
            f"{self.where} lacks '{key}'; it is damaged or no file of this kind: bring the right one back."
        )


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


def read_json(path: Path, **kinds: type | tuple[type, ...]) -> Record:
    """A file that holds one JSON object. A key that is asked for later and is not there is one sentence as well.

    Args:
        kinds: keys that must be there, and of what kind; of our own records every key is looked at that is there.

    Raises:
        GovorError: it is missing or malformed, or a key is of another kind.
    """
    found = parse_json(read_text(path), f"{path} is not valid JSON", Record)
    if not isinstance(found, Record):
        raise GovorError(
            f"{path} holds {_kind(found)} where an object with names was wanted; bring the right file back."
        )
    for item in _objects(found):
        item.where = str(path)
    for key in kinds:
        _ = found[key]
    for name, kind in {**_kinds_of(path), **kinds}.items():
        for value in _at(found, name.split(".")):
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise GovorError(f"{path}: '{name}' is {_kind(value)}, which it cannot be; bring the right file back.")
    return found


_TEXT = (str, type(None))
_RATE = (int, float, type(None))
# What our own records hold, by the names of their files; a star is any name or item.
_KINDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "run_manifest.json": {
        **dict.fromkeys(("run", "family", "base_model", "base_sha256", "precision", "created"), str),
        **dict.fromkeys(("recipe", "recipe.examples", "recipe.finetune", "environment", "environment.packages"), dict),
        **dict.fromkeys(
            ("data", "data.*", "sources", "sources.*", "split", "licenses", "result", "result.metrics"), dict
        ),
        **dict.fromkeys(("data.*.path", "data.*.sha256", "languages.*"), str),
        "data.*.rows": int,
        "languages": list,
        "language_token": _TEXT,
        "recipe.examples.language": _TEXT,
        "recipe.examples.context": str,
        "result.metrics.*": _RATE,
    },
    "state.json": {
        "step": int,
        "metrics": dict,
        "metrics.*": _RATE,
        "data_sha256": str,
        "loss_scale": (int, float),
        "max_batch_audio_seconds": _RATE,
        **dict.fromkeys(("good_steps", "halvings"), int),
    },
    "best.json": {"checkpoint": str},
    "base_model.json": {"source": str, "sha256": str},
    "precision.json": {"value": str, "reason": str},
    "package.json": {"checkpoint": str, "formats": list, "formats.*": str, "checks": dict, "checks.*": dict},
    "metrics.json": {"metrics": dict, "metrics.*": _RATE, "best_checkpoint": str, "best_step": int},
    "diagnosis.json": {"figures": dict, "figures.*": _RATE, "sentences": list, "sentences.*": str, "kind": str},
    "average.json": {"shipped": str, "members": list},
}
_OF_SCORINGS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("manifest", "interval", "lenient", "slices", "contexts", "sets", "sets.*", "table.*"), dict),
    **dict.fromkeys(("failed", "slices.*", "table"), list),
    **dict.fromkeys(("contexts.*", "contexts.*.*", "failed.*", "slices.*.*"), dict),
    **dict.fromkeys(("clips",), int),
    **dict.fromkeys(("wer", "cer", "lenient.wer", "lenient.cer", "real_time_factor", "rate"), _RATE),
    **dict.fromkeys(("wer_interval", "cer_interval"), (list, type(None))),
    **dict.fromkeys(("wer_interval.*", "cer_interval.*"), (int, float)),
}


def _kinds_of(path: Path) -> dict[str, type | tuple[type, ...]]:
    if path.parent.name == "evals" or path.name.startswith("eval_"):
        return _OF_SCORINGS
    return _KINDS.get(path.name, {})


def _at(value: Any, names: list[str]) -> Iterator[Any]:
    if not names:
        yield value
    elif names[0] == "*":
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from _at(inner, names[1:])
    elif isinstance(value, dict) and names[0] in value:
        yield from _at(value[names[0]], names[1:])


def read_log(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL log, none if it is not there; a line that was cut by a crash is left out."""
    rows: list[dict[str, Any]] = []
    for line in read_text(path, 1 << 30).split("\n") if exists(path) else ():
        try:
            row = parse_json(line, str(path), Record)
        except GovorError:
            continue
        for item in _objects(row) if isinstance(row, Record) else ():
            item.where = str(path)
        rows += [row] if isinstance(row, Record) else []
    return rows


def parse_json(text: str, problem: str, kind: type[dict[str, Any]] = dict) -> Any:
    """JSON as it was meant: no key twice, no NaN or infinity, no more than `MOST_DEPTH` levels.

    Args:
        problem: what the message begins with, for example "x.json is not valid JSON".

    Raises:
        GovorError: it is not.
    """
    try:
        value = (_RECORDS if kind is Record else _OBJECTS).decode(text)
        # As many brackets as levels are needed at least; most rows have few.
        if text.count("[") + text.count("{") > MOST_DEPTH and depth_of(value) > MOST_DEPTH:
            raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")
    except json.JSONDecodeError as error:
        at = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise GovorError(f"{problem} ({error.msg} at {at}).") from None
    except RecursionError:
        raise GovorError(f"{problem} (it is nested deeper than {MOST_DEPTH} levels).") from None
    except ValueError as error:
        raise GovorError(f"{problem} ({str(error)[:100]}).") from None
    return value


def depth_of(value: Any) -> int:
    """How many levels of mappings and lists a value has, without recursion."""
    deepest, layer = 0, [value]
    while layer := [part for part in layer if isinstance(part, dict | list)]:
        deepest += 1
        if deepest > MOST_DEPTH:
            break
        layer = [inner for part in layer for inner in (part.values() if isinstance(part, dict) else part)]
    return deepest


def shortened(value: object, most: int = 120) -> str:
    """How a value from outside stands in a message."""
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _objects(value: Any) -> Iterator[Record]:
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, Record):
            yield part
        if isinstance(part, dict | list):
            left.extend(part.values() if isinstance(part, dict) else part)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a number")


def _once(kind: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> Any:
    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = kind(pairs)
        if len(found) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"the key '{shortened(twice, 60)}' stands twice")
        return found

    return made


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _decoder(kind: Callable[[list[tuple[str, Any]]], dict[str, Any]]) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_once(kind), parse_float=_finite, parse_constant=_no_number)


_OBJECTS, _RECORDS = _decoder(dict), _decoder(Record)


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


def workspace_path(path: Path) -> str:
    """How a path is written into our files: relative to the workspace where it lies inside, else absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow the user's links)
    root = Path.cwd()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.as_posix()


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
    found = _TEMPORARY.fullmatch(path.name)
    return found["name"] if found else None


def sweep(folder: Path, alone: bool = False) -> None:
    """Delete what killed processes left half written in `folder`, and bring back what they had set aside.

    What another machine may be writing is left for a day; with `alone` nobody else can be writing there.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            found = _TEMPORARY.fullmatch(path.name) or _UNOWNED.fullmatch(path.name)
            if not found or path.suffix == ".aside":  # a run, which its lock guards
                continue
            owner = found.groupdict()
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
