"""A folder or another tool's manifest into a manifest, or a manifest into another tool's layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from govor.corpus.formats.reading import read_source, source_holds_audio
from govor.corpus.formats.writing import export, is_folder, is_lines
from govor.corpus.inventory import Statement
from govor.corpus.licenses import canonical
from govor.corpus.manifests import row_writer
from govor.corpus.outputs import NothingKept, Rejections, dropped_beside
from govor.corpus.records import Clip, Row
from govor.corpus.small import Small, write_small
from govor.errors import GovorError
from govor.files import refuse_existing
from govor.progress import SILENT, Progress, counted
from govor.runs import Workspace


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is to be written: a layout (a key of FORMATS) into a file or folder.

    `small` also writes NAME_small.jsonl with so many clips of every kind; with `absolute` JSONL names audio by its full path.
    """

    layout: str = "govor"
    out: Path | None = None
    small: int | None = None
    absolute: bool = False
    overwrite: bool = False

    @property
    def keeps_blob(self) -> bool:
        """Whether its rows name the audio of parquet inside a blob beside them; other layouts carry the audio themselves."""
        return self.layout in ("govor", "inline")

    def target(self, workspace: Workspace, source: Path) -> Path:
        """Where the result goes."""
        suffix = "" if is_folder(self.layout) else ".parquet" if self.layout == "parquet" else ".jsonl"
        middle = "" if self.layout in ("govor", "parquet") else f".{self.layout}"
        return self.out or workspace.manifests / f"{source.resolve().stem}{middle}{suffix}"


@dataclass
class Converted:
    """What was written, and what could not be."""

    target: Path
    small_target: Path | None = None
    clips: int = 0
    hours: float = 0.0
    small: int | None = None
    unknown_licenses: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> Row:
        """For people and machines."""
        summary: Row = {"clips": self.clips, "hours": round(self.hours, 3), "dropped": self.dropped}
        return summary if self.small is None else {**summary, "small": self.small}


def convert(
    workspace: Workspace, source: Path, statement: Statement, wanted: Conversion, progress: Progress = SILENT
) -> Converted:
    """Read whatever `source` is and write it in the wanted layout; rejected rows stand beside it in NAME.dropped.jsonl.

    Raises:
        GovorError: no usable clip, a result that is there already, or options that the layout has no use for.
    """
    result = _checked(workspace, source, wanted)
    target = result.target
    chosen = Small(wanted.small) if wanted.small else None
    blob = target.with_suffix(".blob")
    dropped = dropped_beside(target)
    with row_writer(dropped) as write_dropped, TemporaryDirectory() as scratch:
        rejections = Rejections(write_dropped, workspace)
        incoming = (
            blob.with_name(f".{blob.name}.{uuid4().hex[:8]}.tmp") if wanted.keeps_blob else Path(scratch) / "audio.blob"
        )
        known_as = blob if wanted.keeps_blob else None

        def notice(text: str) -> None:
            progress.note(workspace.in_words(text))

        def clips() -> Iterator[Clip]:
            read = read_source(workspace, source, statement, rejections, incoming, known_as, notice)
            for clip in counted(read, progress, "manifest", None):
                result.clips += 1
                result.hours += clip.duration / 3600
                if clip.license and canonical(clip.license) is None:
                    result.unknown_licenses[clip.license] += 1
                if chosen:
                    chosen.see(clip)
                yield clip
            if not result.clips:
                raise NothingKept
            if wanted.keeps_blob and incoming.exists():
                incoming.replace(blob)

        try:
            with suppress(NothingKept):
                export(clips(), wanted.layout, target, wanted.absolute)
        finally:
            incoming.unlink(missing_ok=True)
    if not rejections:
        dropped.unlink()
    if not result.clips:
        listed = f" Each is listed in {dropped}." if rejections else ""
        raise GovorError(f"No usable clip was found in {source}: {rejections.reasons()}.{listed}")
    result.dropped = rejections.by_rule()
    if chosen and result.small_target:
        result.small = write_small(target, result.small_target, chosen.chosen())
    return result


def _checked(workspace: Workspace, source: Path, wanted: Conversion) -> Converted:
    """The result's files, if they may be written."""
    target = wanted.target(workspace, source)
    small_target = target.with_name(f"{target.stem}_small{target.suffix}") if wanted.small else None
    if not is_lines(wanted.layout) and (wanted.small or wanted.absolute):
        option = "--small" if wanted.small else "--absolute"
        raise GovorError(f"{option} does nothing with --to {wanted.layout}; leave it out.")
    for file in (target, small_target) if small_target else (target,):
        if file.resolve() == source.resolve():
            raise GovorError(f"{file} would be written over its own source; give another --out.")
        refuse_existing(file, wanted.overwrite)
    if wanted.keeps_blob and source_holds_audio(source):
        refuse_existing(target.with_suffix(".blob"), wanted.overwrite)
    return Converted(target, small_target)
