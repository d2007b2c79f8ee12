"""inventory, manifest, validate, normalize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from govor.cli import console
from govor.cli.options import Json, Language, License, Out, Overwrite, Speaker, examples, workspace
from govor.cli.summary import MANIFESTS, exit_if, lines

Encoding = Annotated[
    str | None,
    typer.Option("--encoding", help="Encoding of the transcripts, for example cp1255.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command(
        epilog=examples(
            "govor inventory recordings/",
            "govor inventory old/ new/ --language he --license own",
            "govor inventory uploads/ --resume",
        )
    )(inventory)
    app.command(
        epilog=examples(
            "govor manifest recordings/ --language he",
            "govor manifest nemo.jsonl",
            "govor manifest cv-corpus/bs/ --license CC0-1.0",
            "govor manifest recordings/ --language he --out manifests/run1.jsonl --small 100",
            "govor manifest mine.jsonl --to qwen3-asr --absolute",
        )
    )(manifest)
    app.command(
        epilog=examples(
            "govor validate manifests/dataset_inventory.jsonl",
            "govor validate manifests/ivrit-recital.jsonl manifests/mine.jsonl --prefer mine",
            "govor validate manifests/dataset_inventory.jsonl --move-duplicates --dry-run",
            "govor validate --undo",
        )
    )(validate)
    app.command(
        epilog=examples(
            "govor normalize manifests/kept.jsonl", "govor normalize manifests/kept.jsonl --script cyrillic"
        )
    )(normalize)


def inventory(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders of recordings.")],
    out: Out = None,
    language: Language = None,
    license: License = None,
    speaker: Speaker = None,
    encoding: Encoding = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take over what an earlier or interrupted run found; read what changed.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """List every recording below some folders, readable or not, as CSV and JSONL."""
    from govor.corpus.inventory import Statement
    from govor.corpus.scan import take_inventory

    statement = Statement(language, license, speaker, encoding)
    report = take_inventory(workspace(), folders, statement, out, resume, overwrite, console)
    summary, shown = report.as_dict(), workspace().as_given
    console.result(lines(summary), summary, as_json)
    if report.likely_language and not language:
        console.note(
            f"no language is stated; state it when you validate, for example --language {report.likely_language}"
        )
    made = shown(report.rows_file)
    console.made(f"{made} and {shown(report.csv_file)}", f"govor validate {made}")
    exit_if(bool(report.unreadable))


def manifest(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="A folder (pairs, audiofolder, Common Voice, parquet, lhotse, outputs/) or a .jsonl, .csv, .tsv, .parquet.",
        ),
    ],
    to: Annotated[
        Literal["govor", "inline", "nemo", "qwen3-asr", "lhotse", "audiofolder", "commonvoice", "paired", "parquet"],
        typer.Option("--to", help="Layout to write; inline is govor's with <|t|> in the text."),
    ] = "govor",
    out: Out = None,
    language: Language = None,
    license: License = None,
    speaker: Speaker = None,
    encoding: Encoding = None,
    small: Annotated[
        int | None,
        typer.Option(
            min=1, help="Write NAME_small.jsonl too: so many clips of every kind, for a first run.", show_default=False
        ),
    ] = None,
    absolute: Annotated[bool, typer.Option("--absolute", help="Name audio by its full path (JSONL).")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Turn a folder or another tool's manifest into a manifest, or a manifest into another tool's layout."""
    from govor.corpus.formats.convert import Conversion, convert
    from govor.corpus.inventory import Statement

    wanted = Conversion(to, out, small, absolute, overwrite)
    done = convert(workspace(), source, Statement(language, license, speaker, encoding), wanted, console)
    if done.unknown_licenses:
        named = ", ".join(f"'{name}' ({count})" for name, count in done.unknown_licenses.most_common(5))
        console.note(f"licences that are not known, so training will refuse their clips: {named}; see govor licenses")
    console.result(lines(done.as_dict()), done.as_dict(), as_json)
    target = workspace().as_given(done.target)
    made = f"{target} and {workspace().as_given(done.small_target)}" if done.small_target else target
    console.made(made, f"govor validate {target}" if to == "govor" else None)
    exit_if(bool(done.dropped))


def validate(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INVENTORY…",
            help="What `govor inventory`, `manifest` or `prepare` wrote; several are looked through together for copies.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for kept.jsonl, dropped.jsonl and validation_report.json.")
    ] = MANIFESTS,
    language: Language = None,
    min_seconds: Annotated[
        float | None, typer.Option(help="Shortest recording kept [0.5].", show_default=False)
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(help="Longest recording kept [900]; over 30 s preprocess slices it.", show_default=False),
    ] = None,
    near_duplicates: Annotated[
        Literal["drop", "group", "off"],
        typer.Option(help="Re-encoded and trimmed copies: keep the best, keep all as one group, or do not look."),
    ] = "drop",
    prefer: Annotated[
        list[str] | None,
        typer.Option(help="Dataset whose copy stays; repeat it, the best first.", show_default=False),
    ] = None,
    move_duplicates: Annotated[
        bool, typer.Option("--move-duplicates", help="Move the files of copies to uploads/duplicates/.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be moved, and move nothing.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Move every moved copy back.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Decode every recording once; keep what is sound and stands once, write down why the rest is not."""
    from govor.config import parse
    from govor.corpus.validate import Limits, validate_files
    from govor.errors import GovorError

    if undo:
        _undo(as_json)
        return
    if not sources:
        raise GovorError("INVENTORY is missing: the file that `govor inventory` or `govor manifest` wrote.")
    seconds = {"min_seconds": min_seconds, "max_seconds": max_seconds}
    given = {name: value for name, value in seconds.items() if value is not None}
    limits = parse(Limits, {**given, "near_duplicates": near_duplicates, "prefer": tuple(prefer or ())}, "validate")
    done = validate_files(workspace(), sources, limits, out, language, overwrite, console)
    report = done.report
    console.result(lines(report.as_dict()), report.as_dict(), as_json)
    for sentence in report.advice():
        console.note(sentence)
    if move_duplicates:
        _move(out, dry_run)
    kept = workspace().as_given(done.kept)
    after = "preprocess" if report.warnings["longer_than_30_s"] else "split"
    console.made(f"{kept}, dropped.jsonl, validation_report.json", f"govor normalize {kept}   (then govor {after})")
    exit_if(bool(report.dropped))


def _move(out: Path, dry_run: bool) -> None:
    from govor.corpus.moves import move_duplicates

    moves = move_duplicates(workspace(), out, dry_run)
    for item in moves:
        console.note(f"{'would move' if dry_run else 'moved'}  {item.source} → {item.target}: {item.reason}")
    if not dry_run and moves:
        console.note(f"{len(moves)} files moved; govor validate --undo brings them back")


def _undo(as_json: bool) -> None:
    from govor.corpus.moves import undo

    back, failed = undo(workspace())
    summary = {"moved_back": back, "failed": failed}
    console.result("\n".join([f"{back} files moved back", *failed]), summary, as_json)
    exit_if(bool(failed))


def normalize(
    source: Annotated[Path, typer.Argument(metavar="MANIFEST")],
    script: Annotated[
        Literal["latin", "cyrillic", "keep"], typer.Option("--script", help="Script of Bosnian, Croatian and Serbian.")
    ] = "latin",
    beside: Annotated[
        bool,
        typer.Option("--norm-txt/--no-norm-txt", help="Write x.norm.txt beside each x.txt, for people to compare."),
    ] = True,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Clean the transcripts for training; the originals stay in `transcript_raw`."""
    from govor.corpus.normalize.files import normalize_file

    done = normalize_file(workspace(), source, out, script, beside, overwrite, console)
    console.result(lines(done.as_dict()), done.as_dict(), as_json)
    target = workspace().as_given(done.target)
    console.made(target, f"govor split {target} --name mine")
    exit_if(bool(done.dropped))
