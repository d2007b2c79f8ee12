"""A scoring: what it is called, where it stands, whether it is there already; one row per clip is kept, so that anything can
be counted again without the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from govor.audio import split_blob
from govor.corpus.manifests import fingerprint, read_clips, read_rows, write_rows
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.families.registry import task_named
from govor.families.task import Row, Task
from govor.files import exists, refuse_existing
from govor.measure.partial import Partial
from govor.runs import NAME, Json, Run, Workspace, read_scoring, write_scoring

# What becomes of a scoring that is there: it is refused; gone on with, or taken, where it is this very one; taken where it is
# this very one and replaced where it is not; replaced.
Existing = Literal["refuse", "resume", "renew", "overwrite"]
# How texts were decoded, where nothing is said: by a search that was taken as it is.
PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Filed:
    """A result, the file that it stands in, and whether it was there already."""

    file: Path
    result: Json
    reused: bool = False


def dataset_name(manifest: Path) -> str:
    """`manifests/splits/czech/test.jsonl` is the set `czech-test`."""
    part = manifest.stem
    return f"{manifest.parent.name}-{part}" if part in ("train", "validation", "test") else part


def decoded_name(model: str, beam_size: int = 1, engine: str = "torch", plain: bool = False) -> str:
    """The name that scores of a model are filed under, which says how it was decoded: `mine-1-beam5-ct2-plain`."""
    beams, own = f"-beam{beam_size}" if beam_size > 1 else "", "" if engine == "torch" else f"-{engine}"
    return model + beams + own + (f"-{PLAIN}" if plain else "")


def decoding_of(summary: Json) -> str | None:
    """How a scoring's texts were decoded: plain, served, or by a server in its own way; None where none are texts."""
    if "server" in summary:
        return "server"
    return None if summary.get("task") else str(summary.get("decoding", PLAIN))


def clips_to_score(workspace: Workspace, manifest: Path, most: int | None = None) -> list[Clip]:
    """The clips of a manifest; of more than `most` the same sample for every model.

    Raises:
        GovorError: none, two of one id, or audio that is not there.
    """
    clips = list(read_clips(manifest, workspace.root))
    if not clips:
        raise GovorError(f"{manifest} holds no clips to score.")
    names: set[str] = set()
    for clip in clips:
        if clip.id in names:
            raise GovorError(f"{manifest} holds the clip '{clip.id}' twice; give each an id of its own.")
        names.add(clip.id)
    if most is not None and most < len(clips):
        chosen = set(sorted(names, key=lambda name: sha256(name.encode("utf-8", "replace")).digest())[:most])
        clips = [clip for clip in clips if clip.id in chosen]
    gone = [clip for clip in clips if not split_blob(clip.file)[0].is_file()]
    if gone:
        raise GovorError(
            f"{manifest}: the audio of {len(gone)} clips was not found (first: '{gone[0].id}' at {gone[0].audio})."
        )
    return clips


@dataclass(frozen=True, slots=True)
class ClipSet:
    """The clips that are scored, the manifest that they stand in, and the name that their scores are filed under."""

    manifest: Path
    clips: list[Clip]
    name: str

    @classmethod
    def read(cls, workspace: Workspace, manifest: Path, most: int | None = None, name: str | None = None) -> ClipSet:
        """Of a manifest, at most `most` clips; the name says how many where there is such a limit.

        Raises:
            GovorError: see `clips_to_score`.
        """
        clips = clips_to_score(workspace, manifest, most)
        name = name or dataset_name(Path(workspace.as_given(manifest)))
        return cls(manifest, clips, name + (f"-{len(clips)}" if most is not None else ""))

    def __len__(self) -> int:
        return len(self.clips)

    def check(self, task: Task) -> None:
        """Refuse clips that lack what a task is scored by."""
        for clip in self.clips:
            reason = task.refuse(clip)
            if reason is not None:
                raise GovorError(f"{self.manifest}: {reason}.")


def manifest_record(workspace: Workspace, manifest: Path) -> Json:
    """What a scoring records of its manifest: path, rows, sha256."""
    return {**fingerprint(manifest), "path": workspace.as_given(manifest)}


@dataclass(frozen=True, slots=True)
class Scoring:
    """One model on one set of clips in one context.

    `about` says what is scored and how: it begins with model, source, set and context, and stands at the head of the summary.
    """

    workspace: Workspace
    task: Task
    clips: ClipSet
    about: Json

    @property
    def file(self) -> Path:
        """Where the summary stands, `<file without .json>.clips.jsonl` beside it."""
        return self.workspace.scoring(*(str(self.about[key]) for key in ("model", "set", "context")))

    @property
    def shown(self) -> str:
        """The file as the user and other files name it."""
        return self.workspace.as_given(self.file)

    def refuse_existing(self, existing: Existing) -> None:
        """Refuse what is there, where it is neither to be taken nor replaced."""
        if existing == "refuse":
            refuse_existing(self.file, False, "--overwrite to score it again")

    def finished(self, existing: Existing) -> Json | None:
        """The summary of this very scoring where it is there, every clip was answered, and it is to be taken.

        Texts that were counted otherwise than today are counted anew.

        Raises:
            GovorError: another scoring is in its place, and it is not to be replaced.
        """
        if existing == "overwrite" or not exists(self.file):
            return None
        summary = read_scoring(self.file)
        if not self._is(summary, existing):
            if existing == "renew":
                return None
            was = decoding_of(summary)
            how = f" (it was decoded {was})" if self.about.get("decoding", was) != was else ""
            raise GovorError(
                f"{self.file} is of other weights, clips or settings{how}; give --overwrite to score again."
            )
        if summary.get("failed"):
            return None
        return summary if self.task.current(summary) else rescore(self.file)

    def _is(self, summary: Json, existing: Existing) -> bool:
        """Whether a summary is of these clips, answered in this way by these weights."""
        manifest = fingerprint(self.clips.manifest)
        if summary.get("manifest", {}).get("sha256") != manifest["sha256"] or summary.get("clips") != len(self.clips):
            return False
        differing = {key for key, value in self.about.items() if summary.get(key) != value}
        return not differing or (existing == "renew" and differing == {"weights"} and self._since_training())

    def _since_training(self) -> bool:
        """Whether the scoring is younger than the run's training: packaging a run gives it other files, and no other weights."""
        run = Run.holding(self.workspace.path(str(self.about["source"])), self.workspace)
        trained = run.folder / "metrics.json" if run else None
        return trained is not None and exists(trained) and trained.stat().st_mtime <= self.file.stat().st_mtime

    def unfinished(self, existing: Existing) -> Partial:
        """What is answered already, and where more is added."""
        about = {**self.about, "manifest": manifest_record(self.workspace, self.clips.manifest)}
        replace = existing in ("overwrite", "renew")
        stem = self.file.with_name(self.file.name.removesuffix(".json"))
        return Partial(stem, {**about, "clips": len(self.clips)}, existing == "resume", replace)

    def write(self, rows: Sequence[Row], measured: Json) -> Json:
        """Count and file the rows, in the order of the manifest; `measured` stands after `about`. Returns the summary."""
        by_id = {row["id"]: row for row in rows}
        ordered = [by_id[clip.id] for clip in self.clips.clips]
        return write_eval(self.workspace, self.file, ordered, {**self.about, **measured}, self.clips.manifest)


def write_eval(workspace: Workspace, file: Path, rows: Sequence[Row], about: Json, manifest: Path) -> Json:
    """Write `<file without .json>.clips.jsonl`, then `file` with the summary; returns the summary."""
    task = task_named(about.get("task"), file)
    counted = task.counted(rows)
    summary = {**about, "manifest": manifest_record(workspace, manifest), **task.summarise(counted)}
    _write(file, summary, counted)
    return summary


def read_eval(file: Path) -> tuple[Json, list[Row]]:
    """A scoring's summary and clip rows, from its `.json`; those of an older way of counting are counted anew.

    Raises:
        GovorError: it is none, or a row is damaged.
    """
    summary_file, clips_file = _files(file)
    summary: Json = read_scoring(summary_file)
    task = task_named(summary.get("task"), summary_file)
    named = all(
        isinstance(summary.get(key), str) and NAME.fullmatch(summary[key]) for key in ("model", "set", "context")
    )
    if not named or task.metrics[0].name not in summary:
        raise GovorError(f"{summary_file} is no result of `govor evaluate`.")
    rows = [row for _, row in read_rows(clips_file)]
    for number, row in enumerate(rows, start=1):
        missing = [key for key in ("id", *task.evidence, "duration") if key not in row]
        if missing:
            raise GovorError(f"{clips_file}:{number}: '{missing[0]}' is missing; score the model again.")
        if not (isinstance(row["id"], str) and isinstance(row["duration"], int | float) and task.sound(row)):
            raise GovorError(f"{clips_file}:{number}: the row is damaged; score the model again.")
    if not task.current(summary, rows):
        rows = task.counted(rows)
        summary = {**summary, **task.summarise(rows)}
    return summary, rows


def rescore(file: Path) -> Json:
    """Count and sum up a scoring's answers again, as today; no model is needed. Returns the summary.

    Raises:
        GovorError: see `read_eval`.
    """
    summary, rows = read_eval(file)
    task = task_named(summary.get("task"), file)
    counted = task.counted(rows)
    again = {**summary, **task.summarise(counted)}
    _write(file, again, counted)
    return again


def refuse_unread(file: Path, summary: Json) -> None:
    """Refuse a scoring in which clips that could not be read count as empty: their errors are nobody's.

    A server's stay, since it would gain by refusing what is hard.
    """
    failed = summary.get("failed") or []
    if failed and "server" not in summary:
        raise GovorError(
            f"{file} counts {len(failed)} clips as empty that could not be read (first: '{failed[0]['id']}'); mend them and "
            "score them with --resume, then compare."
        )


def _files(file: Path) -> tuple[Path, Path]:
    """The summary and the rows of a scoring, named by either."""
    name = file.name.removesuffix(".json").removesuffix(".clips.jsonl")
    return file.with_name(name + ".json"), file.with_name(name + ".clips.jsonl")


def _write(file: Path, summary: Json, rows: Sequence[Row]) -> None:
    summary_file, clips_file = _files(file)
    write_rows(clips_file, rows)
    write_scoring(summary_file, summary)
