"""preprocess, split, balance, augment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from govor.cli import console
from govor.cli.options import Json, Overwrite, examples, workspace
from govor.cli.summary import MANIFESTS, exit_if, lines

if TYPE_CHECKING:
    from govor.corpus.records import Row
    from govor.corpus.split import Division


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command(
        epilog=examples(
            "govor preprocess manifests/normalized.jsonl --name mine",
            "govor preprocess manifests/normalized.jsonl --trim-silence --loudness -23 --audio-format flac",
        )
    )(preprocess)
    app.command(
        epilog=examples(
            "govor split manifests/normalized.jsonl --name mine",
            "govor split manifests/normalized.jsonl --name mine --allow-overlap speaker",
        )
    )(split)
    app.command(epilog=examples("govor balance manifests/normalized.jsonl"))(balance)
    app.command(
        epilog=examples(
            "govor augment manifests/splits/mine/train.jsonl --preview out.html",
            "govor augment manifests/splits/mine/train.jsonl --copies 2 --name mine-harder",
        )
    )(augment)


def preprocess(
    source: Annotated[Path, typer.Argument(metavar="MANIFEST")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the result; the manifest's by default.", show_default=False)
    ] = None,
    max_seconds: Annotated[float, typer.Option(help="Longest slice.")] = 30.0,
    min_seconds: Annotated[float, typer.Option(help="Shortest slice.")] = 0.5,
    max_source_seconds: Annotated[float, typer.Option(help="Longest recording taken.")] = 900.0,
    min_source_seconds: Annotated[
        float, typer.Option(help="Shortest recording taken; slices of one may be shorter.")
    ] = 1.0,
    trim_silence: Annotated[bool, typer.Option("--trim-silence", help="Cut silence off both ends.")] = False,
    loudness: Annotated[
        float | None,
        typer.Option(help="Bring every clip to this loudness in LUFS, for example -23.", show_default=False),
    ] = None,
    audio_format: Annotated[Literal["wav", "flac"], typer.Option(help="Both are lossless, 16-bit.")] = "wav",
    channels: Annotated[
        Literal["mix", "left", "right", "split"],
        typer.Option(help="Of two channels: their mean, one, or a clip of each where each holds another voice."),
    ] = "mix",
    vad: Annotated[
        Literal["auto", "silero", "energy"],
        typer.Option(help="How pauses are found; auto takes Silero if it is there."),
    ] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on; audio that is written stays.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Bring any recording to 16 kHz mono 16-bit; cut long ones at pauses into slices of at most 30 s with their times."""
    from govor.config import parse
    from govor.corpus.preprocess import Destination, PreprocessSettings, preprocess_file

    values = {
        "max_seconds": max_seconds,
        "min_seconds": min_seconds,
        "max_source_seconds": max_source_seconds,
        "min_source_seconds": min_source_seconds,
        "trim_silence": trim_silence,
        "loudness_lufs": loudness,
        "audio_format": audio_format,
        "channels": channels,
    }
    settings = parse(PreprocessSettings, values, "preprocess")
    done = preprocess_file(workspace(), source, settings, Destination(name, resume, overwrite), vad, console)
    console.result(lines(done.as_dict()), done.as_dict(), as_json)
    target, folder = workspace().as_given(done.target), workspace().as_given(done.folder)
    console.made(f"{target}, audio in {folder}/", f"govor split {target} --name {done.folder.name}")
    exit_if(bool(done.dropped))


def split(
    source: Annotated[Path, typer.Argument(metavar="MANIFEST")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the split; the manifest's by default.", show_default=False),
    ] = None,
    validation_share: Annotated[float, typer.Option(help="Share of the hours that steers training.")] = 0.1,
    test_share: Annotated[float, typer.Option(help="Share of the hours that judges.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Which of the possible divisions.")] = 0,
    allow_overlap: Annotated[
        list[str] | None,
        typer.Option(help="speaker or source: let this kind cross, and mark the proof.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Divide into train, validation and test; no speaker, source or near-duplicate crosses, and a proof counts it."""
    from govor.config import parse
    from govor.corpus.split import SplitSettings, split_file

    values = {
        "validation_share": validation_share,
        "test_share": test_share,
        "seed": seed,
        "allow_overlap": tuple(allow_overlap or ()),
    }
    folder, division = split_file(workspace(), source, parse(SplitSettings, values, "split"), name, overwrite)
    proof, target = division.proof, workspace().as_given(folder)
    summary = {name: proof[name] for name in ("parts", "overlaps", "skew", "dropped")}
    console.result(_split_lines(proof), summary, as_json)
    if proof["longer_than_30_s"]:
        console.note(
            f"{proof['longer_than_30_s']} clips are longer than 30 s and cannot train: run govor preprocess first"
        )
    console.made(
        f"{target}/ with train, validation, test and proof.json",
        f"{_train_command(division)} --set data.split={target} --set name={folder.name}-1",
    )
    if not division.clean:
        console.note("overlap was allowed and counted; the proof is marked, and the exit code is 1")
    exit_if(not division.clean)


def _train_command(division: Division) -> str:
    """With a shipped recipe where the clips have transcripts; what learns anything else has one of its own."""
    clip, *_ = next(division.rows())
    return "govor train whisper" if clip.transcribed else "govor train RECIPE.yaml"


def _split_lines(proof: Row) -> str:
    lines = [
        f"{part:<11}{values['clips']:>7} clips {values['hours']:>8.2f} h  {values['speakers']} speakers, {values['sources']} sources"
        for part, values in proof["parts"].items()
    ]
    crossing = {kind: sum(pairs.values()) for kind, pairs in proof["overlaps"].items()}
    lines.append("overlaps   " + ", ".join(f"{kind} {count}" for kind, count in crossing.items()))
    if proof["speakers_unknown"]:
        lines.append(
            f"speakers are unknown for {proof['speakers_unknown']} clips; their groups were guessed from the source recording"
        )
    if proof["dropped"]:
        lines.append("dropped    " + ", ".join(f"{rule} {count}" for rule, count in proof["dropped"].items()))
    return "\n".join(lines)


def augment(
    source: Annotated[Path, typer.Argument(metavar="MANIFEST")],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings; configs/augment.yaml if it is there.", show_default=False),
    ] = None,
    copies: Annotated[int, typer.Option(min=1, help="Augmented versions of every clip.")] = 1,
    keep_originals: Annotated[
        bool, typer.Option("--originals/--no-originals", help="The clips as they are as well.")
    ] = True,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the result; the manifest's by default.", show_default=False)
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option("--preview", help="Write a page to look at and listen to instead.", show_default=False),
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips on the page.")] = 3,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write augmented copies of every clip, seeded; or a page that shows and plays what would be done."""
    from govor.examples.offline import Copies, augment_file, open_augmenter, preview_file

    augmenter = open_augmenter(workspace(), config, console)
    if preview is not None:
        preview_file(workspace(), source, augmenter, preview, clips, overwrite, console)
        page = workspace().as_given(preview)
        console.made(page, f"open {page}")
        return
    done = augment_file(workspace(), source, augmenter, Copies(name, copies, keep_originals, overwrite), console)
    console.result(lines(done.as_dict()), done.as_dict(), as_json)
    console.note("augment training rows only: a held-out part is judged as it was recorded")
    console.made(workspace().as_given(done.target))
    exit_if(bool(done.dropped))


def balance(
    source: Annotated[Path, typer.Argument(metavar="MANIFEST")],
    out: Annotated[Path, typer.Option("--out", help="The JSON; the page goes to reports/.")] = MANIFESTS
    / "dataset_balance.json",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Speakers, dialects, languages, noise, lengths and vocabulary, with recommendations, as JSON and a page."""
    from govor.corpus.balance import weigh

    done = weigh(workspace(), source, out, overwrite, console)
    shown = workspace().as_given
    console.result("\n".join(f"- {line}" for line in done.values["recommendations"]), done.values, as_json)
    console.made(f"{shown(done.json_file)} and {shown(done.page)}", f"govor split {shown(source)} --name mine")
