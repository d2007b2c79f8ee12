"""Which files are recordings, and how a manifest names a recording inside of a larger file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from govor.errors import AudioError

AUDIO_SUFFIXES = frozenset(
    {
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".oga",
        ".opus",
        ".m4a",
        ".webm",
        ".mp4",
        ".aac",
        ".aiff",
        ".aif",
        ".au",
        ".aifc",
        ".caf",
        ".w64",
        ".mp2",
        ".m4b",
        ".mka",
        ".mkv",
        ".mov",
        ".avi",
        ".3gp",
        ".3g2",
        ".amr",
        ".awb",
        ".wma",
        ".asf",
        ".ac3",
    }
)
_BLOB = re.compile(r"(?P<path>.+)#(?P<offset>\d+),(?P<length>\d+)")


def find_audio(folder: Path, unless: str | None = None) -> Iterator[Path]:
    """Audio files below `folder`, sorted within each folder; links to folders are not followed, hidden files left out, and
    so is every folder that holds a file named `unless`."""
    for root, folders, files in os.walk(folder):
        if unless in files:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith("."):
                yield Path(root) / name


def split_blob(audio: str | Path) -> tuple[Path, tuple[int, int] | None]:
    """`path#offset,length` as its parts; a plain path has no span."""
    match = _BLOB.fullmatch(str(audio))
    if match is None or Path(audio).exists():
        return Path(audio), None
    return Path(match["path"]), (int(match["offset"]), int(match["length"]))


def existing(audio: str | Path) -> Path:
    """The file of a recording, or why there is none.

    Raises:
        AudioError: missing, empty, or no file that can be opened.
    """
    path, span = split_blob(audio)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise AudioError("unreadable", f"{path} is not a file.")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise AudioError("missing", f"{path} was not found; check the path in the manifest.") from None
    except ValueError:
        raise AudioError("unreadable", f"{str(path)!r} is no path.") from None
    except OSError as error:
        raise AudioError("unreadable", f"{path} cannot be opened: {error.strerror}.") from None
    if size == 0 or (span is not None and span[0] + span[1] > size):
        raise AudioError("empty", f"{path} is empty (or shorter than the span asked of it).")
    return path
