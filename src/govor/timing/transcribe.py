"""What is said in recordings, and when: `govor transcribe`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from govor.audio import SAMPLE_RATE, Samples, probe
from govor.corpus.vad import Vad
from govor.errors import AudioError, GovorError
from govor.families.opening import Opened
from govor.families.task import ContextMode, DecodeOptions
from govor.jsons import to_json
from govor.progress import SILENT, Progress
from govor.runs import Workspace
from govor.timing.align import AlignmentHeads, align
from govor.timing.any_length import alignment_heads
from govor.timing.files import about_times, write_outputs
from govor.timing.longform import LongFormOptions, Piece, transcribe_with_samples
from govor.timing.subtitles import write_format
from govor.timing.words import Line, Method, Word, filled, make_lines


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in one recording. `lines` of words with times are there where they were wanted; `method` says how these
    were found."""

    audio: str
    model: str
    language: str | None
    seconds: float
    pieces: tuple[Piece, ...]
    lines: tuple[Line, ...] = ()
    method: Method = "cross-attention"

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(piece.text for piece in self.pieces if piece.text)

    @property
    def words(self) -> list[Word]:
        """The words of all lines."""
        return [word for line in self.lines for word in line.words]

    def as_json(self) -> str:
        """Text and pieces, on one line."""
        pieces = [piece.to_row() for piece in self.pieces]
        return to_json({"audio": self.audio, "model": self.model, "text": self.text, "pieces": pieces})

    def as_format(self, name: str) -> str:
        """The lines in one of `subtitles.FORMATS`."""
        return write_format(name, self.lines, self.seconds, **self._about())

    def write(self, folder: Path, kinds: Sequence[str]) -> list[Path]:
        """Write the lines in each of these formats; returns the files."""
        return write_outputs(folder, self.lines, kinds, self.seconds, **self._about())

    def _about(self) -> dict[str, object]:
        return about_times(self.audio, self.model, self.language, self.method)


def options_for(
    opened: Opened,
    language: str | None = None,
    context: ContextMode | None = None,
    beam_size: int = 1,
    previous: bool | None = None,
    vad: Vad | None = None,
    guard: bool = True,
) -> LongFormOptions:
    """How recordings are transcribed with a model; what is None is what the model was trained for."""
    decode = DecodeOptions(opened.in_context(context), beam_size, language=language or opened.language)
    return LongFormOptions(decode, opened.previous if previous is None else previous, vad, guard)


def transcribe_files(
    workspace: Workspace,
    opened: Opened,
    files: Sequence[Path],
    options: LongFormOptions,
    timed: bool = False,
    progress: Progress = SILENT,
) -> Iterator[Transcript | AudioError]:
    """The transcript of each recording in turn, or why it cannot be read.

    Args:
        timed: give every word its time.

    Raises:
        GovorError: words cannot be timed in a language that is not known.
    """
    if timed and options.decode.language is None:
        raise GovorError("Words cannot be timed without knowing the language; give --language.")
    heads = alignment_heads(workspace, opened, (), options.decode.context, progress=progress) if timed else None
    for file in files:
        try:
            yield _transcribe_file(workspace, opened, file, options, _Timer(opened, options, heads, timed), progress)
        except AudioError as error:
            progress.note(f"failed  {error}")
            yield error


def _transcribe_file(
    workspace: Workspace, opened: Opened, file: Path, options: LongFormOptions, timer: _Timer, progress: Progress
) -> Transcript:
    info = probe(file)
    seconds = info.duration_seconds
    audio = workspace.as_given(file)
    if info.shortfall is not None:
        progress.note(f"{audio}: {info.shortfall.message}; what is there is transcribed")
    pieces: list[Piece] = []
    with progress.bar(f"transcribe {file.name}", round(seconds)) as bar:
        for piece, samples in transcribe_with_samples(opened.recogniser, str(file), options):
            pieces.append(piece)
            timer.add(piece, samples)
            bar.to(min(round(piece.end), round(seconds)), round(seconds))
    for piece in pieces:
        if piece.doubtful:
            span = f"{piece.start:.1f}–{piece.end:.1f} s"
            progress.note(f"doubtful  {file.name} {span} ({', '.join(piece.flags)})")
    return Transcript(
        audio=audio,
        model=opened.name,
        language=options.decode.language,
        seconds=max(seconds, pieces[-1].end if pieces else 0.0),
        pieces=tuple(pieces),
        lines=tuple(make_lines(timer.words)),
        method=timer.method,
    )


class _Timer:
    """Collects the words of one recording's pieces with their times, where these are wanted."""

    def __init__(self, opened: Opened, options: LongFormOptions, heads: AlignmentHeads | None, wanted: bool) -> None:
        self._opened, self._options, self._heads, self._wanted = opened, options, heads, wanted
        self.words: list[Word] = []
        self.method: Method = "cross-attention"

    def add(self, piece: Piece, samples: Samples) -> None:
        """The words of the next piece."""
        if not self._wanted or not piece.text:
            return
        recogniser, decode = self._opened.recogniser, self._options.decode
        assert decode.language is not None
        fitting = samples[: int(recogniser.longest_seconds * SAMPLE_RATE)]
        (aligned,) = align(recogniser, [fitting], [piece.text], [decode.language], decode.context, self._heads)
        self.method = aligned.method
        inside = filled(aligned.words, 0.0, piece.end - piece.start)
        self.words += [word.moved(piece.start) for word in inside]
