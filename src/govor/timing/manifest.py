"""Word times for the transcripts of a manifest: `govor align`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from govor.corpus.manifests import Manifest, read_clips, rejected, row_writer
from govor.corpus.records import Clip
from govor.errors import AudioError, GovorError
from govor.families.base import Aligner
from govor.families.opening import Opened
from govor.families.task import ContextMode
from govor.progress import SILENT, Progress
from govor.runs import Json, Workspace
from govor.timing.align import AlignmentHeads
from govor.timing.any_length import align_any, alignment_heads, in_taught_language
from govor.timing.files import about_times, output_folder, write_outputs
from govor.timing.request import AlignOptions, check_align
from govor.timing.words import Line, Method, Word, lines_of_speakers, segments_of


@dataclass(frozen=True, slots=True)
class AlignedManifest:
    """What came of a manifest: rows aligned and dropped, words in all and those with times, and where the rows lie."""

    aligned: int
    dropped: int
    words: int
    words_placed: int
    manifest: Path
    dropped_rows: Path
    approximate: bool


@dataclass(frozen=True, slots=True)
class _AlignedClip:
    words: Sequence[Word]
    lines: Sequence[Line]
    seconds: float
    method: Method


def align_manifest(
    workspace: Workspace,
    opened: Opened,
    manifest: Path,
    target: Path,
    options: AlignOptions = AlignOptions(),
    progress: Progress = SILENT,
) -> AlignedManifest:
    """Fill `segments` and `words` of every row; rows that cannot be aligned go to `<target>.dropped.jsonl` with the reason.

    Raises:
        GovorError: no clips, or what is there would be replaced; see `check_align`.
    """
    check_align(workspace, manifest, target, options)
    context = opened.in_context(options.context)
    clips = read_clips(manifest, workspace.root)
    heads = alignment_heads(workspace, opened, clips, context, options.measure_heads, progress)
    dropped_rows = target.with_name(f"{target.stem}.dropped.jsonl")
    aligned = dropped = words = placed = 0
    with (
        row_writer(target) as write,
        row_writer(dropped_rows) as drop,
        progress.bar("align", len(Manifest(manifest))) as bar,
    ):
        for clip in read_clips(manifest, workspace.root):
            bar.advance()
            result = _align_clip(opened, clip, context, heads)
            if not isinstance(result, _AlignedClip):
                drop(result)
                words, dropped = words + (result["measured"] or 0), dropped + 1
                continue
            aligned += 1
            words += len(result.words)
            placed += sum(word.start is not None for word in result.words)
            write.clip(
                clip.replace(segments=segments_of(result.lines), words=tuple(word.to_row() for word in result.words))
            )
            about = about_times(clip.audio, opened.name, clip.language, result.method)
            write_outputs(output_folder(workspace, clip.id), result.lines, options.kinds, result.seconds, **about)
    approximate = not isinstance(opened.recogniser, Aligner)
    return AlignedManifest(aligned, dropped, words, placed, target, dropped_rows, approximate)


def _align_clip(opened: Opened, clip: Clip, context: ContextMode, heads: AlignmentHeads | None) -> _AlignedClip | Json:
    """A row with its times, or the row of `.dropped.jsonl` that says why it gets none."""
    try:
        aligned, seconds = align_any(opened.recogniser, in_taught_language(opened, clip), context, heads)
    except GovorError as error:
        rule = error.rule if isinstance(error, AudioError) else "not_aligned"
        return rejected(clip.to_row(), rule, message=str(error))
    if aligned.refused or all(word.start is None for word in aligned.words):
        why = aligned.refused or "none of its words was heard"
        return rejected(clip.to_row(), "not_aligned", len(aligned.words), "words with times", why)
    return _AlignedClip(aligned.words, lines_of_speakers(aligned.words, clip.segments), seconds, aligned.method)
