"""A page that plays a recording and lights up its words, and the files for players: `govor karaoke`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.families.opening import Opened
from govor.progress import SILENT, Progress
from govor.runs import Workspace
from govor.timing.any_length import align_any, alignment_heads
from govor.timing.files import USUAL_KINDS, about_times, page_paths, write_outputs
from govor.timing.karaoke_page import write_page
from govor.timing.lyrics import Song
from govor.timing.request import KaraokeOptions, check_karaoke
from govor.timing.words import Line, pieces_of


@dataclass(frozen=True, slots=True)
class Karaoke:
    """What was made of a song: the page and the other files, and how many of its words have times."""

    page: Path
    files: tuple[Path, ...]
    lines: tuple[Line, ...]
    words: int
    words_placed: int


def make_karaoke(
    workspace: Workspace,
    opened: Opened,
    song: Song,
    options: KaraokeOptions = KaraokeOptions(),
    progress: Progress = SILENT,
) -> Karaoke:
    """Align a song's words and write its page and `outputs/<recording>/`.

    Raises:
        GovorError: the language is not known, the words cannot be laid over the recording, or its page is there already.
    """
    check_karaoke(workspace, song.audio, options)
    language = options.language or opened.language
    if language is None:
        raise GovorError("The language is not known: this model was not trained for one; give --language.")
    context = opened.in_context(options.context)
    clip = Clip(song.audio.stem, str(song.audio), " ".join(song.lines), song.seconds, language)
    by_line = [pieces_of(line, language) for line in song.lines]
    heads = alignment_heads(workspace, opened, [clip], context, progress=progress)
    with progress.bar("align", None):
        pieces = [piece for line in by_line for piece in line]
        aligned, seconds = align_any(opened.recogniser, clip, context, heads, check=False, pieces=pieces)
    rest = iter(aligned.words)
    lines = tuple(Line(tuple(islice(rest, len(line)))) for line in by_line)
    if aligned.refused:
        raise GovorError(f"{song.text} cannot be laid over {song.audio}: {aligned.refused}.")
    page, folder = page_paths(workspace, song.audio, options.out)
    write_page(page, song.audio, lines, clip.id, language, aligned.method != "cross-attention")
    about = about_times(workspace.as_given(song.audio), opened.name, language, aligned.method)
    files = write_outputs(folder, lines, USUAL_KINDS, seconds, **about)
    placed = sum(word.start is not None for word in aligned.words)
    return Karaoke(page, tuple(files), lines, len(aligned.words), placed)
