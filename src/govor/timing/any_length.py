"""Clips and recordings of any length, known text or none: the way in for whoever wants words with times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from govor.audio import SAMPLE_RATE, decode
from govor.corpus.manifests import read_clips
from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import AudioError, GovorError
from govor.families.base import Aligner, Recogniser
from govor.families.opening import Opened
from govor.families.task import ContextMode, DecodeOptions
from govor.progress import SILENT, Progress
from govor.runs import Run, Workspace
from govor.timing.align import Aligned, AlignmentHeads, align_pieces
from govor.timing.heads import measure_heads, store_heads, stored_heads
from govor.timing.longform import LongFormOptions, transcribe_with_samples
from govor.timing.recordings import Window, align_recording
from govor.timing.words import pieces_of

# What fits a model's window is aligned at once.
_AT_ONCE_SECONDS = 29.0
_CLIPS_TO_CHOOSE_BY = 400


def alignment_heads(
    workspace: Workspace,
    opened: Opened,
    clips: Iterable[Clip],
    context: ContextMode,
    measure_again: bool = False,
    progress: Progress = SILENT,
) -> AlignmentHeads | None:
    """The heads to believe: stored beside the model, else measured now on the short ones of `clips`, or of the clips that the
    run was validated on, and stored; else None (those that the model's configuration names)."""
    recogniser = opened.recogniser
    if not isinstance(recogniser, Aligner):
        return None
    stored = None if measure_again else stored_heads(opened.folder, recogniser.heads, context)
    if stored is not None:
        return stored
    choice = None
    for source in (clips, _validated_on(workspace, opened.folder)):
        spoken = (clip for clip in islice(source, _CLIPS_TO_CHOOSE_BY) if clip.transcript.strip())
        choice = choice or measure_heads(recogniser, [in_taught_language(opened, clip) for clip in spoken], context)
    if choice is None:
        progress.note(
            "too few short clips to measure the heads on; those that the model's configuration names are believed"
        )
        return None
    progress.note(
        f"heads measured on {choice.borders} borders between clips: {len(choice.chosen.heads)} of "
        f"{len(recogniser.heads)} follow the speech, off by {choice.error_seconds * 1000:.0f} ms"
    )
    try:
        store_heads(opened.folder, choice, context, opened.name)
    except (OSError, GovorError) as error:
        progress.note(f"the choice cannot be kept beside the model: {error}")
    return choice.chosen


def in_taught_language(opened: Opened, clip: Clip) -> Clip:
    """The clip in the language that the model was taught for all of its clips, if it was."""
    return clip.replace(language=opened.language_token) if opened.language_token else clip


def _validated_on(workspace: Workspace, folder: Path) -> Iterator[Clip]:
    """Clips that the run in `folder` was validated on, as far as they are still there."""
    run = Run.holding(folder, workspace)
    if run is None or not run.finished:
        return
    for name, entry in run.record().data.items():
        path = workspace.path(entry["path"])
        if name.endswith("/validation") and path.exists():
            yield from read_clips(path, workspace.root)


def align_any(
    recogniser: Recogniser,
    clip: Clip,
    context: ContextMode,
    heads: AlignmentHeads | None,
    check: bool = True,
    pieces: Sequence[str] | None = None,
) -> tuple[Aligned, float]:
    """(words with times, seconds) of a clip or a recording of any length; times count from the clip's beginning.

    Args:
        check: refuse audio that is not as long as the row says.
        pieces: the transcript, cut already; by words if None.

    Raises:
        AudioError: unreadable, or of another length.
    """
    parts = pieces_of(clip.transcript, clip.language) if pieces is None else pieces
    longest = min(_AT_ONCE_SECONDS, recogniser.longest_seconds)
    if clip.duration <= longest:
        samples = clip_samples(clip) if check else decode(clip.file)
        if len(samples) / SAMPLE_RATE <= longest:
            (aligned,) = align_pieces(recogniser, [samples], [parts], [clip.language], context, heads)
            return aligned, len(samples) / SAMPLE_RATE
    windows, seconds = _windows(recogniser, clip, context)
    if check and abs(seconds - clip.duration) > max(0.5, 0.02 * clip.duration):
        raise AudioError(
            "duration_mismatch",
            f"Clip '{clip.id}' lasts {seconds:.2f} s and its manifest says {clip.duration:.2f} s; run govor validate.",
        )
    return align_recording(recogniser, windows, parts, clip.language, context, heads), seconds


def _windows(recogniser: Recogniser, clip: Clip, context: ContextMode) -> tuple[list[Window], float]:
    """The windows of a long clip with what is said in each, and its length in seconds."""
    options = LongFormOptions(DecodeOptions(context, language=clip.language))
    length = None if clip.offset is None else clip.duration
    windows: list[Window] = []
    seconds = 0.0
    for piece, samples in transcribe_with_samples(recogniser, clip.file, options, clip.offset or 0.0, length):
        # A window that says nothing is left out, so that no word is put into silence.
        if piece.text:
            windows.append(Window(piece.start, samples.copy(), piece.text))
        seconds = piece.end
    return windows, seconds
