"""transcribe, align, karaoke: words of recordings, with times."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from govor.cli import console
from govor.cli.models import Context, Device, Engine, Model, Precision, check_model, open_model
from govor.cli.options import Json, Language, Out, Overwrite, examples
from govor.cli.summary import exit_if

Format = Literal["txt", "json", "srt", "vtt", "lrc", "ass", "textgrid"]
# What `transcribe --outputs` writes.
_TRANSCRIBED = ("json", "txt", "lrc")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(
        epilog=examples(
            "govor transcribe models/whisper/mine-1 clip.wav",
            "govor transcribe models/whisper/mine-1 *.mp3 --format json",
            "govor transcribe openai/whisper-base long.m4a --language he --format srt > long.srt",
        )
    )(transcribe)
    app.command(
        epilog=examples(
            "govor align manifests/kept.jsonl --model models/whisper/mine-1",
            "govor align manifests/kept.jsonl --model openai/whisper-base --formats json,srt,textgrid",
        )
    )(align)
    app.command(
        epilog=examples(
            "govor karaoke song.mp3 song.txt --model models/whisper/mine-1 --language bs",
            "govor karaoke song.mp3 song.txt --model openai/whisper-small --language sr --out song.html",
        )
    )(karaoke)


def transcribe(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A package, run, ggml file or Hub id.")],
    audio: Annotated[list[Path], typer.Argument(metavar="AUDIO…", help="Recordings of any length.")],
    format_: Annotated[Format, typer.Option("--format", help="What to print.")] = "txt",
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Write outputs/<file>/ (JSON and text, beside what is printed).")
    ] = False,
    language: Language = None,
    context: Context = None,
    beam_size: Annotated[int, typer.Option(min=1, help="1 is greedy.")] = 1,
    previous: Annotated[
        bool | None,
        typer.Option(
            help="Give each window the text before it; default: if the model was taught so.", show_default=False
        ),
    ] = None,
    vad: Annotated[
        Literal["auto", "silero", "energy", "off"], typer.Option(help="How windows without speech are told.")
    ] = "auto",
    guard: Annotated[bool, typer.Option(help="Leave out what is written for no speech, hear loops again.")] = True,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Write down what is said in recordings. Without --language the model's own or a detected one is taken."""
    from govor.audio import probe
    from govor.corpus.vad import open_vad
    from govor.errors import AudioError, GovorError
    from govor.files import refuse_existing
    from govor.timing.files import output_path

    if len(audio) == 1:
        probe(audio[0])  # a file that is no audio is said before a model is loaded
    for path in audio if outputs else ():
        for kind in _TRANSCRIBED:
            refuse_existing(output_path(_output_folder(path, audio), kind), overwrite, "--overwrite to replace it")
    check_model(model, engine, device, [language])
    # Only now: these import torch, which takes seconds.
    from govor.timing.anything import listening_of
    from govor.timing.longform import Ear

    opened = open_model(model, engine, precision, device)
    detector = None if vad == "off" else open_vad(vad, console.note)
    how = Ear(
        language or opened.language,
        context or opened.context,
        beam_size,
        opened.previous if previous is None else previous,
        detector,
        guard,
    )
    timed = outputs or format_ not in ("txt", "json")
    if timed and how.language is None:
        raise GovorError("Words cannot be timed without knowing the language; give --language.")
    listening = listening_of(opened, (), how.context, notify=console.note) if timed else None
    failed = []
    for path in audio:
        try:
            folder = _output_folder(path, audio) if outputs else None
            _transcribe_one(opened, path, how, format_, folder, timed, listening, len(audio) > 1)
        except AudioError as error:
            failed.append(error)
            console.note(f"failed  {error}")
    if failed and len(failed) == len(audio):
        raise GovorError(
            str(failed[0])
            if len(failed) == 1
            else f"None of the {len(audio)} files could be read; the reasons stand above."
        )
    exit_if(bool(failed))


def _transcribe_one(
    opened: Any, path: Path, how: Any, format_: str, outputs: Path | None, timed: bool, listening: Any, several: bool
) -> None:
    from govor.audio import probe
    from govor.jsons import to_json
    from govor.timing.files import write_outputs
    from govor.timing.longform import hear
    from govor.timing.subtitles import write_format
    from govor.timing.words import filled, make_lines

    info = probe(path)
    seconds = info.duration_seconds
    if info.shortfall is not None:
        console.note(f"{path}: {info.shortfall.message}; what is there is transcribed")
    pieces: list[dict[str, Any]] = []
    words: list[Any] = []
    method = "cross-attention"
    with console.bar(f"transcribe {path.name}", round(seconds)) as bar:
        for piece, samples in hear(opened.recogniser, str(path), how):
            pieces.append(piece)
            if timed and piece["text"]:
                found = _timed(opened, samples, piece, how, listening)
                method = found.method
                inside = filled(found.words, 0.0, piece["end"] - piece["start"])
                words += [word.moved(piece["start"]) for word in inside]
            bar.to(min(round(piece["end"]), round(seconds)), round(seconds))
    seconds = max(seconds, pieces[-1]["end"] if pieces else 0.0)
    for piece in pieces:
        if set(piece["flags"]) & {"loop", "unsure", "cut"}:
            span = f"{piece['start']:.1f}–{piece['end']:.1f} s"
            console.note(f"doubtful  {path.name} {span} ({', '.join(piece['flags'])})")
    text = " ".join(piece["text"] for piece in pieces if piece["text"])
    if not timed:
        if format_ == "json":
            console.say(to_json({"audio": str(path), "model": opened.name, "text": text, "pieces": pieces}))
        else:
            console.say(f"{path}\t{text}" if several else text)
        return
    lines = make_lines(words)
    about = _about(str(path), opened, how.language, method)
    if outputs:
        made = write_outputs(outputs, lines, _TRANSCRIBED, seconds, **about)
        console.made(", ".join(map(str, made)))
    console.say(write_format(format_, lines, seconds, **about).rstrip("\n"))


def _output_folder(path: Path, among: Sequence[Path]) -> Path:
    """outputs/<stem>; where two recordings share a stem, their paths keep them apart, and if need be their suffixes."""
    others = [other for other in among if other != path]
    for named in (_stem, _without_suffix):
        if all(named(other).casefold() != named(path).casefold() for other in others):
            return _outputs_of(named(path))
    return _outputs_of(path.as_posix())


def _stem(path: Path) -> str:
    return path.stem


def _without_suffix(path: Path) -> str:
    return path.with_suffix("").as_posix()


def _outputs_of(name: str) -> Path:
    """The folder of one recording or clip."""
    from govor.timing.files import file_id

    return Path("outputs") / file_id(name)


def _about(audio: str, opened: Any, language: str | None, method: str) -> dict[str, Any]:
    """What every file in it says of itself."""
    return {
        "audio": audio,
        "model": opened.name,
        "language": language,
        "method": method,
        "approximate": method != "cross-attention",
    }


def _timed(opened: Any, samples: Any, piece: dict[str, Any], how: Any, listening: Any) -> Any:
    """Words of one piece with times."""
    from govor.audio import SAMPLE_RATE
    from govor.timing.align import align

    held = samples[: int(opened.recogniser.longest_seconds * SAMPLE_RATE)]
    return align(opened.recogniser, [held], [piece["text"]], [how.language], how.context, listening)[0]


def align(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Clips or long recordings with transcripts.")],
    model: Model,
    out: Out = None,
    formats: Annotated[
        str, typer.Option(help="Files in outputs/<id>/: txt,json,srt,vtt,lrc,ass,textgrid; none writes no files.")
    ] = "json,txt",
    context: Context = None,
    measure_heads: Annotated[
        bool, typer.Option("--measure-heads", help="Choose the heads anew, even if it was done before.")
    ] = False,
    precision: Precision = "auto",
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Put transcripts on the clock: fills `segments` and `words` of a manifest, so that long recordings can be sliced."""
    from govor.corpus.manifests import Manifest, read_clips, rejected, row_writer
    from govor.errors import AudioError, GovorError, nearest
    from govor.files import refuse_existing
    from govor.timing.subtitles import FORMATS
    from govor.timing.words import lines_of_speakers

    kinds = [kind for kind in formats.split(",") if kind and kind != "none"]
    for kind in kinds:
        if kind not in FORMATS:
            raise GovorError(f"There is no format '{kind}'; {nearest(kind, list(FORMATS))}")
    target = out or manifest.with_name(f"{manifest.stem}-aligned.jsonl")
    refuse_existing(target, overwrite)
    total = len(Manifest(manifest))
    if not total:
        raise GovorError(f"{manifest} holds no clips to align.")
    check_model(model, device=device)
    # Only now: these import torch, which takes seconds.
    from govor.timing.anything import align_any, listening_of, told
    from govor.timing.files import output_path, write_outputs

    for clip in read_clips(manifest) if kinds else ():
        for kind in kinds:
            refuse_existing(
                output_path(_outputs_of(clip.id), kind), overwrite, "--overwrite to replace it, or --formats none"
            )
    opened = open_model(model, precision=precision, device=device)
    shape = context or opened.context
    listening = listening_of(opened, read_clips(manifest), shape, measure_heads, console.note)
    done, lost, placed, words = 0, 0, 0, 0
    dropped = target.with_name(f"{target.stem}.dropped.jsonl")
    with row_writer(target) as write, row_writer(dropped) as drop, console.bar("align", total) as bar:
        for clip in read_clips(manifest):
            bar.advance()
            try:
                found, seconds = align_any(opened.recogniser, told(opened, clip), shape, listening)
            except GovorError as error:
                rule = error.rule if isinstance(error, AudioError) else "not_aligned"
                drop(rejected(clip.to_row(), rule, message=str(error)))
                lost += 1
                continue
            timed = [word for word in found.words if word.start is not None]
            words, placed = words + len(found.words), placed + len(timed)
            if found.refused or not timed:
                why = found.refused or "none of its words was heard"
                drop(rejected(clip.to_row(), "not_aligned", len(found.words), "words with times", why))
                lost += 1
                continue
            lines = lines_of_speakers(found.words, clip.segments)
            write.clip(clip.replace(segments=segments_of(lines), words=tuple(word.to_row() for word in found.words)))
            done += 1
            if kinds:
                about = _about(clip.audio, opened, clip.language, found.method)
                write_outputs(_outputs_of(clip.id), lines, kinds, seconds, **about)
    result = {"aligned": done, "dropped": lost, "words": words, "words_placed": placed, "manifest": str(target)}
    text = f"{done} of {total} rows aligned, {placed} of {words} words placed" + (
        f"; {lost} rows were not, reasons in {dropped}" if lost else ""
    )
    if not hasattr(opened.recogniser, "attend"):
        text += "; times are approximate: this family has no aligner"
    console.result(text, result, as_json)
    console.made(target, f"govor preprocess {shlex.quote(str(target))}")
    exit_if(bool(lost))


def karaoke(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="The song or recording.")],
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="Its words, a line as it is sung on each line.")],
    model: Model,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; AUDIO.html by default.", show_default=False)
    ] = None,
    language: Language = None,
    context: Context = None,
    precision: Precision = "auto",
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """One page that plays a recording and lights up each word, and a karaoke.lrc for players."""
    from govor.audio import probe
    from govor.corpus.records import Clip
    from govor.errors import GovorError
    from govor.files import refuse_existing

    target = out or Path(f"{audio.stem}.html")
    refuse_existing(target, overwrite)
    outputs = _outputs_of(audio.stem if out is None else out.with_suffix("").as_posix())
    refuse_existing(outputs / "karaoke.lrc", overwrite)
    seconds = probe(audio).duration_seconds
    written = _lyrics(text)
    check_model(model, device=device, languages=[language])
    # Only now: these import torch, which takes seconds.
    from govor.timing.anything import align_any, listening_of
    from govor.timing.files import write_outputs
    from govor.timing.karaoke import write_page
    from govor.timing.words import Line, pieces_of

    opened = open_model(model, precision=precision, device=device)
    code = language or opened.language
    if code is None:
        raise GovorError("The language is not known: this model was not trained for one; give --language.")
    shape = context or opened.context
    clip = Clip(audio.stem, str(audio), " ".join(written), seconds, code)
    by_line = [pieces_of(line, code) for line in written]
    listening = listening_of(opened, [clip], shape, notify=console.note)
    with console.bar("align", None):
        pieces = [piece for line in by_line for piece in line]
        found, heard = align_any(opened.recogniser, clip, shape, listening, check=False, pieces=pieces)
    lines, at = [], 0
    for line in by_line:
        lines.append(Line(found.words[at : at + len(line)]))
        at += len(line)
    if found.refused:
        raise GovorError(f"{text} cannot be laid over {audio}: {found.refused}.")
    placed = sum(word.start is not None for word in found.words)
    write_page(target, audio, lines, audio.stem, code, found.method != "cross-attention")
    about = _about(str(audio), opened, code, found.method)
    made = write_outputs(outputs, lines, ("json", "txt", "lrc"), heard, **about)
    console.say(f"{placed} of {len(found.words)} words placed")
    console.made(", ".join(map(str, [target, *made])))


def _lyrics(path: Path) -> list[str]:
    """Lines of words; section names in brackets ([Chorus]) are not sung."""
    import re

    from govor.corpus import timed
    from govor.errors import AudioError, GovorError
    from govor.files import read_text

    content = read_text(path)
    try:
        timed_lines = [segment.text for segment in timed.read(content, path.suffix).segments]
    except AudioError as error:
        raise GovorError(f"{path}: {error}") from None
    lines = timed_lines or content.splitlines()
    kept = [re.sub(r"^\s*\[[^\]]*\]\s*$", "", line).strip() for line in lines]
    found = [line for line in kept if any(letter.isalnum() for letter in line)]
    if not found:
        raise GovorError(f"{path} holds no words.")
    return found


def segments_of(lines: Sequence[Any]) -> tuple[Any, ...]:
    """Segments of a manifest, from the placed words of each line."""
    from govor.corpus.records import Segment
    from govor.timing.words import joined

    return tuple(
        Segment(
            round(line.start, 3), round(line.end, 3), joined(w for w in line.words if w.start is not None), line.speaker
        )
        for line in lines
        if line.start is not None and line.end is not None
    )
