"""What is said in recordings, and when: `govor transcribe`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from govor.timing.files import USUAL_KINDS, about_times, write_outputs
from govor.timing.longform import LongFormOptions, Piece, transcribe_with_samples
from govor.timing.request import Outputs, check_transcribe
from govor.timing.subtitles import write_format
from govor.timing.words import Line, Method, Word, filled, make_lines


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in one recording. `lines` of words with times are there where they were wanted; `method` says how these
    were found; `files` are what was written of it."""

    audio: str
    model: str
    language: str | None
    seconds: float
    pieces: tuple[Piece, ...]
    lines: tuple[Line, ...] = ()
    method: Method = "cross-attention"
    files: tuple[Path, ...] = ()

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
    outputs: Outputs | None = None,
) -> Iterator[Transcript | AudioError]:
    """The transcript of each recording in turn, or why it cannot be read.

    Args:
        timed: give every word its time.
        outputs: write the files of each recording too, with the time of every word.

    Raises:
        GovorError: words cannot be timed in a language that is not known, or files would be replaced; after the last
            recording, that none of them could be read.
    """
    check_transcribe(workspace, files, outputs)
    timed = timed or outputs is not None
    if timed and options.decode.language is None:
        raise GovorError("Words cannot be timed without knowing the language; give --language.")
    heads = alignment_heads(workspace, opened, (), options.decode.context, progress=progress) if timed else None
    folders = [None] * len(files) if outputs is None else outputs.folders(workspace, files)

    def transcribed(file: Path, folder: Path | None) -> Transcript:
        timer = _Timer(opened, options, heads, timed)
        transcript = _transcribe_file(workspace, opened, file, options, timer, progress)
        return transcript if folder is None else replace(transcript, files=tuple(transcript.write(folder, USUAL_KINDS)))

    return _each(list(zip(files, folders, strict=True)), transcribed, progress)


def _each(
    places: Sequence[tuple[Path, Path | None]],
    transcribed: Callable[[Path, Path | None], Transcript],
    progress: Progress,
) -> Iterator[Transcript | AudioError]:
    """Recordings that cannot be read are passed over, unless there are no others."""
    errors = []
    for file, folder in places:
        try:
            yield transcribed(file, folder)
        except AudioError as error:
            progress.note(f"failed  {error}")
            errors.append(error)
            yield error
    if errors and len(errors) == len(places):
        several = GovorError(f"None of the {len(places)} files could be read; the reasons stand above.")
        raise errors[0] if len(errors) == 1 else several


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
