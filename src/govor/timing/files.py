"""`outputs/<file_id>/`: what was said in a recording and when, for whoever works with it next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from govor.errors import GovorError, nearest
from govor.files import refuse_existing, write_text
from govor.runs import Workspace
from govor.timing.subtitles import FORMATS, write_format
from govor.timing.words import Line

# What `transcribe --outputs` and `karaoke` write.
USUAL_KINDS = ("json", "txt", "lrc")
_NAMES = {"lrc": "karaoke.lrc"}


def file_id(name: str) -> str:
    """A folder's name from a clip's id or a file's name: what is unusual in names is replaced, and a hash keeps apart what
    that makes equal."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "recording"
    if plain == name and len(name.encode()) <= 100:
        return name
    cut = plain.encode("utf-8", "replace")[:80].decode("utf-8", "ignore")
    return f"{cut}-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def output_folder(workspace: Workspace, name: str) -> Path:
    """The folder of one recording or clip, by its name; every command takes it from here."""
    return workspace.outputs / file_id(name)


def recording_folder(workspace: Workspace, audio: Path, among: Sequence[Path]) -> Path:
    """outputs/<stem>; where two recordings share a stem, their paths keep them apart, and if need be their suffixes."""
    path, paths = (Path(workspace.as_given(audio)), [Path(workspace.as_given(other)) for other in among])
    others = [other for other in paths if other != path]
    for named in (_stem, _without_suffix):
        if all(named(other).casefold() != named(path).casefold() for other in others):
            return output_folder(workspace, named(path))
    return output_folder(workspace, path.as_posix())


def _stem(path: Path) -> str:
    return path.stem


def _without_suffix(path: Path) -> str:
    return path.with_suffix("").as_posix()


def page_paths(workspace: Workspace, audio: Path, out: Path | None) -> tuple[Path, Path]:
    """(the karaoke page of a recording, the folder of its other files)."""
    if out is None:
        return workspace.path(f"{audio.stem}.html"), output_folder(workspace, audio.stem)
    return out, output_folder(workspace, _without_suffix(Path(workspace.as_given(out))))


def output_path(folder: Path, kind: str) -> Path:
    """`karaoke.lrc`, and `transcription_base` with its suffix for every other format."""
    return folder / _NAMES.get(kind, f"transcription_base{FORMATS[kind]}")


def check_kinds(formats: Iterable[str]) -> list[str]:
    """Formats by name, without `none`.

    Raises:
        GovorError: there is none of that name.
    """
    kinds = [kind for kind in formats if kind and kind != "none"]
    for kind in kinds:
        if kind not in FORMATS:
            raise GovorError(f"There is no format '{kind}'; {nearest(kind, list(FORMATS))}")
    return kinds


def refuse_existing_outputs(folders: Iterable[Path], kinds: Sequence[str], overwrite: bool, remedy: str) -> None:
    """Refuse to replace what lies in any of the folders unasked."""
    for folder in folders:
        for kind in kinds:
            refuse_existing(output_path(folder, kind), overwrite, remedy)


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


def about_times(audio: str, model: str, language: str | None, method: str) -> dict[str, object]:
    """What every file with times says of itself."""
    return {
        "audio": audio,
        "model": model,
        "language": language,
        "method": method,
        "approximate": method != "cross-attention",
    }
