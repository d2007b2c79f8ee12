"""Errors a user can act on.

Each carries one sentence: what was found, what was wanted, what to do. The command line prints the sentence
and exits with the class's code; anything else that escapes is a bug and shows its traceback.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class GovorError(Exception):
    """The user can mend this; the command ends with exit code 2."""

    exit_code = 2


class UnreachableError(GovorError):
    """Something had to be fetched and no source of it answered."""


class AudioError(GovorError):
    """A recording cannot be used. `rule` is the name under which validation files it."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, str]]:
        return type(self), (self.rule, str(self))


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint that names the closest option, or lists them when none is close."""
    known = sorted(options)
    close = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(known)}" if known else "none is known"


_DISK_SENTENCES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the disk or file-size limit is reached; free some space or raise the limit",
    errno.EACCES: "writing there is not permitted; choose a folder you may write to (--workspace or --out)",
    errno.EPERM: "writing there is not permitted; choose a folder you may write to (--workspace or --out)",
    errno.EROFS: "that file system is read-only; choose another folder (--workspace or --out)",
    errno.ENOTDIR: "a part of that path is a file, not a folder; choose another --out",
    errno.EISDIR: "that path is a folder and a file was wanted; choose another --out",
    errno.EEXIST: "a file stands where a folder is wanted; move it away or choose another --out",
    errno.ENAMETOOLONG: "that name is too long; choose a shorter one",
}


@contextmanager
def disk_errors(path: Path | str, what: str) -> Iterator[None]:
    """Turn a failed write of `what` to `path` into one sentence; other errors pass unchanged.

    Libraries written in Rust or C++ report a full disk as text, so the message is read too.
    """
    try:
        yield
    except GovorError:
        raise
    except OSError as error:
        sentence = _DISK_SENTENCES.get(error.errno or 0, (error.strerror or str(error)).lower())
        raise GovorError(f"Cannot write {what} to {path}: {sentence}.") from error
    except Exception as error:
        text = str(error).lower()
        for phrase, code in (("file too large", errno.EFBIG), ("no space left", errno.ENOSPC)):
            if phrase in text:
                raise GovorError(f"Cannot write {what} to {path}: {_DISK_SENTENCES[code]}.") from error
        raise
