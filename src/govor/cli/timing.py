"""transcribe, align, karaoke: words of recordings, with times."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from govor.cli import console
from govor.cli.models import Context, Device, Engine, Model, Precision, check_model, open_model
from govor.cli.options import Json, Language, Out, Overwrite, examples, workspace
from govor.cli.summary import exit_if

if TYPE_CHECKING:  # a command's help must not wait for torch
    from govor.timing.manifest import AlignedManifest
    from govor.timing.transcribe import Transcript

Format = Literal["txt", "json", "srt", "vtt", "lrc", "ass", "textgrid"]


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
    from govor.corpus.vad import open_vad
    from govor.errors import AudioError
    from govor.timing.request import Outputs, check_transcribe

    written = Outputs(overwrite) if outputs else None
    check_transcribe(workspace(), audio, written)
    check_model(model, engine, device, [language])
    # Only now: these import torch, which takes seconds.
    from govor.timing.transcribe import options_for, transcribe_files

    opened = open_model(model, engine, precision, device)
    detector = None if vad == "off" else open_vad(vad, console.note)
    options = options_for(opened, language, context, beam_size, previous, detector, guard)
    timed = outputs or format_ not in ("txt", "json")
    unread = 0
    for transcript in transcribe_files(workspace(), opened, audio, options, timed, console, written):
        if isinstance(transcript, AudioError):
            unread += 1
            continue
        if transcript.files:
            console.made(_names(transcript.files))
        console.say(_shown(transcript, format_, timed, len(audio) > 1))
    exit_if(bool(unread))


def _shown(transcript: Transcript, format_: Format, timed: bool, several: bool) -> str:
    if timed:
        return transcript.as_format(format_).rstrip("\n")
    if format_ == "json":
        return transcript.as_json()
    return f"{transcript.audio}\t{transcript.text}" if several else transcript.text


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
    """Put times to the words of transcripts: fills `segments` and `words` of a manifest, so that long recordings can be sliced."""
    from govor.timing.files import check_kinds
    from govor.timing.request import AlignOptions, check_align

    target = out or manifest.with_name(f"{manifest.stem}-aligned.jsonl")
    options = AlignOptions(check_kinds(formats.split(",")), context, measure_heads, overwrite)
    check_align(workspace(), manifest, target, options)
    check_model(model, device=device)
    from govor.timing.manifest import align_manifest  # only now: it imports torch, which takes seconds

    opened = open_model(model, precision=precision, device=device)
    made = align_manifest(workspace(), opened, manifest, target, options, console)
    console.result(_summary(made), _row(made), as_json)
    place = workspace().as_given(target)
    console.made(place, f"govor preprocess {shlex.quote(place)}")
    exit_if(bool(made.dropped))


def _row(made: AlignedManifest) -> dict[str, object]:
    return {
        "aligned": made.aligned,
        "dropped": made.dropped,
        "words": made.words,
        "words_placed": made.words_placed,
        "manifest": workspace().as_given(made.manifest),
    }


def _summary(made: AlignedManifest) -> str:
    text = f"{made.aligned} of {made.aligned + made.dropped} rows aligned, {made.words_placed} of {made.words} words placed"
    if made.dropped:
        text += f"; {made.dropped} rows were not, reasons in {workspace().as_given(made.dropped_rows)}"
    return text + ("; times are approximate: this family has no aligner" if made.approximate else "")


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
    from govor.timing.lyrics import read_song
    from govor.timing.request import KaraokeOptions, check_karaoke

    options = KaraokeOptions(out, language, context, overwrite)
    check_karaoke(workspace(), audio, options)
    song = read_song(audio, text)
    check_model(model, device=device, languages=[language])
    from govor.timing.karaoke import make_karaoke  # only now: it imports torch, which takes seconds

    opened = open_model(model, precision=precision, device=device)
    made = make_karaoke(workspace(), opened, song, options, console)
    console.say(f"{made.words_placed} of {made.words} words placed")
    console.made(_names([made.page, *made.files]))


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(workspace().as_given, paths))
