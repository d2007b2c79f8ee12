"""`outputs/<file_id>/`: what was said in a recording and when, for whoever works with it next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from govor.files import write_text
from govor.timing.subtitles import FORMATS, write_format
from govor.timing.words import Line

_NAMES = {"lrc": "karaoke.lrc"}


def file_id(name: str) -> str:
    """A folder's name from a clip's id or a file's name: what is unusual in names is replaced, and a hash keeps apart what
    that makes equal."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "recording"
    if plain == name and len(name.encode()) <= 100:
        return name
    cut = plain.encode("utf-8", "replace")[:80].decode("utf-8", "ignore")
    return f"{cut}-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def output_path(folder: Path, kind: str) -> Path:
    """`karaoke.lrc`, and `transcription_base` with its suffix for every other format."""
    return folder / _NAMES.get(kind, f"transcription_base{FORMATS[kind]}")


def write_outputs(
    folder: Path, lines: Sequence[Line], kinds: Sequence[str], total_seconds: float, **about: object
) -> list[Path]:
    """Write the lines in each of the formats; returns the files."""
    paths = []
    for kind in kinds:
        path = output_path(folder, kind)
        write_text(path, write_format(kind, lines, total_seconds, **about))
        paths.append(path)
    return paths
