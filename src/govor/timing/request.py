"""What is asked of recordings, refused where it cannot be had.

Nothing here imports torch, which takes seconds: commands refuse before that, and every use case refuses once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from govor.audio import probe
from govor.corpus.manifests import Manifest, read_clips
from govor.errors import GovorError
from govor.families.task import ContextMode
from govor.files import refuse_existing
from govor.runs import Workspace
from govor.timing.files import (
    USUAL_KINDS,
    check_kinds,
    output_folder,
    output_path,
    page_paths,
    recording_folder,
    refuse_existing_outputs,
)


@dataclass(frozen=True, slots=True)
class Outputs:
    """That the files of each recording are written into `outputs/<recording>/`; older ones give way if `overwrite`."""

    overwrite: bool = False

    def folders(self, workspace: Workspace, files: Sequence[Path]) -> list[Path]:
        """The folder of each recording."""
        return [recording_folder(workspace, file, files) for file in files]


@dataclass(frozen=True, slots=True)
class AlignOptions:
    """`kinds` are the formats written to outputs/<id>/; `context` None is the one that the model was trained for."""

    kinds: Sequence[str] = ()
    context: ContextMode | None = None
    measure_heads: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class KaraokeOptions:
    """`out` is the page, `<recording>.html` by default; what else is None is what the model was trained for."""

    out: Path | None = None
    language: str | None = None
    context: ContextMode | None = None
    overwrite: bool = False


def check_transcribe(workspace: Workspace, files: Sequence[Path], outputs: Outputs | None = None) -> None:
    """Refuse a single recording that is none, and to replace the files of any.

    Raises:
        AudioError: the one recording cannot be read.
        GovorError: files of one are there already.
    """
    if len(files) == 1:
        probe(files[0])
    if outputs is not None:
        folders = outputs.folders(workspace, files)
        refuse_existing_outputs(folders, USUAL_KINDS, outputs.overwrite, "--overwrite to replace it")


def check_align(workspace: Workspace, manifest: Path, target: Path, options: AlignOptions) -> None:
    """Refuse a manifest without clips, formats that there are not, and to replace what is there.

    Raises:
        GovorError: with the first of these.
    """
    check_kinds(options.kinds)
    refuse_existing(target, options.overwrite)
    if not len(Manifest(manifest, workspace.root)):
        raise GovorError(f"{manifest} holds no clips to align.")
    clips = read_clips(manifest, workspace.root) if options.kinds else ()
    folders = (output_folder(workspace, clip.id) for clip in clips)
    refuse_existing_outputs(folders, options.kinds, options.overwrite, "--overwrite to replace it, or --formats none")


def check_karaoke(workspace: Workspace, audio: Path, options: KaraokeOptions) -> None:
    """Refuse to replace a recording's page or its file for players.

    Raises:
        GovorError: one of them is there.
    """
    page, folder = page_paths(workspace, audio, options.out)
    refuse_existing(page, options.overwrite)
    refuse_existing(output_path(folder, "lrc"), options.overwrite)
