"""inventory, manifest, validate, normalize."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal
from uuid import uuid4

import typer

from govor.cli import console
from govor.cli.options import Json, Language, License, Out, Overwrite, Speaker, examples
from govor.cli.summary import MANIFESTS, NothingKept, Rejections, counted_words, exit_if, lines, outputs

DUPLICATES = Path("uploads") / "duplicates"
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
    from govor.cli.scan import take_inventory
    from govor.corpus.inventory import Statement, find_recordings, passed_over
    from govor.errors import GovorError
    from govor.files import refuse_existing

    target = out or MANIFESTS / "dataset_inventory.jsonl"
    if target.suffix != ".jsonl":
        raise GovorError(f"{target} must end in .jsonl; the spreadsheet is written beside it as .csv.")
    for file in (target, target.with_suffix(".csv")):
        refuse_existing(
            file, overwrite or resume, "--resume to bring it up to date, --overwrite to begin anew, or --out"
        )
    total = sum(1 for folder in folders for _ in find_recordings(folder))
    if not total:
        there = sum(map(passed_over, folders), Counter[str]())
        other = (
            f" (what lies there: {counted_words({k or 'no suffix': n for k, n in there.most_common(5)})})"
            if there
            else ""
        )
        raise GovorError(
            f"No recordings were found below {', '.join(map(str, folders))}{other}; wav, flac, mp3, ogg, opus, m4a, webm, mp4 and "
            "what PyAV reads besides are looked for."
        )
    summary = take_inventory(folders, Statement(language, license, speaker, encoding), target, total, resume)
    console.result(lines(summary), summary, as_json)
    guesses = {code: count for code, count in summary["language_guesses"].items() if code != "unknown"}
    if not language and guesses and not summary["language_stated"]:
        console.note(f"no language is stated; state it when you validate, for example --language {next(iter(guesses))}")
    console.made(f"{target} and {target.with_suffix('.csv')}", f"govor validate {target}")
    exit_if(bool(summary["unreadable"]))


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
    from govor.corpus.formats import export, read_source
    from govor.corpus.formats.reading import source_holds_audio
    from govor.corpus.formats.writing import is_folder, is_lines
    from govor.corpus.inventory import Statement
    from govor.corpus.licenses import canonical
    from govor.corpus.manifests import row_writer
    from govor.corpus.records import Clip
    from govor.corpus.small import Small, write_small
    from govor.errors import GovorError
    from govor.files import refuse_existing

    suffix = "" if is_folder(to) else ".parquet" if to == "parquet" else ".jsonl"
    middle = "" if to in ("govor", "parquet") else f".{to}"
    target = out or MANIFESTS / f"{source.resolve().stem}{middle}{suffix}"
    small_target = target.with_name(f"{target.stem}_small{target.suffix}")
    if not is_lines(to) and (small or absolute):
        raise GovorError(f"{'--small' if small else '--absolute'} does nothing with --to {to}; leave it out.")
    for file in (target, small_target) if small else (target,):
        if file.resolve() == source.resolve():
            raise GovorError(f"{file} would be written over its own source; give another --out.")
        refuse_existing(file, overwrite)
    totals: Counter[str] = Counter()
    unknown_licenses: Counter[str] = Counter()
    hours = 0.0
    chosen = Small(small) if small else None
    # What names blobs keeps the audio of parquet beside it; other layouts carry the audio themselves.
    stays = to in ("govor", "inline")
    blob = target.with_suffix(".blob")
    if stays and source_holds_audio(source):
        refuse_existing(blob, overwrite)
    statement = Statement(language, license, speaker, encoding)
    dropped = target.with_name(target.stem + ".dropped.jsonl")
    with row_writer(dropped) as write_dropped, TemporaryDirectory() as scratch:
        rejections = Rejections(write_dropped)
        incoming = blob.with_name(f".{blob.name}.{uuid4().hex[:8]}.tmp") if stays else Path(scratch) / "audio.blob"

        def clips() -> Any:
            nonlocal hours
            clip: Clip
            known_as = blob if stays else None
            found = read_source(source, statement, rejections, incoming, known_as, console.note)
            for clip in console.counted(found, "manifest", None):
                totals["clips"] += 1
                hours += clip.duration / 3600
                if clip.license and canonical(clip.license) is None:
                    unknown_licenses[clip.license] += 1
                if chosen:
                    chosen.see(clip)
                yield clip
            if not totals["clips"]:
                raise NothingKept
            if stays and incoming.exists():
                incoming.replace(blob)

        try:
            with suppress(NothingKept):
                export(clips(), to, target, absolute)
        finally:
            incoming.unlink(missing_ok=True)
    if not rejections:
        dropped.unlink()
    if not totals["clips"]:
        listed = f" Each is listed in {dropped}." if rejections else ""
        raise GovorError(f"No usable clip was found in {source}: {rejections.reasons()}.{listed}")
    summary: dict[str, Any] = {"clips": totals["clips"], "hours": round(hours, 3), "dropped": rejections.by_rule()}
    if chosen:
        summary["small"] = write_small(target, small_target, chosen.chosen())
    if unknown_licenses:
        named = ", ".join(f"'{name}' ({count})" for name, count in unknown_licenses.most_common(5))
        console.note(f"licences that are not known, so training will refuse their clips: {named}; see govor licenses")
    console.result(lines(summary), summary, as_json)
    made = f"{target} and {small_target}" if chosen else target
    console.made(made, f"govor validate {target}" if to == "govor" else None)
    exit_if(bool(rejections))


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
    from govor.corpus.manifests import read_rows
    from govor.corpus.tombstones import Tombstones
    from govor.corpus.validate import Limits
    from govor.corpus.validate import validate as check
    from govor.errors import GovorError
    from govor.files import refuse_existing
    from govor.jsons import write_json

    if undo:
        _undo(as_json)
        return
    if not sources:
        raise GovorError("INVENTORY is missing: the file that `govor inventory` or `govor manifest` wrote.")
    refuse_existing(out / "kept.jsonl", overwrite)
    given = {"min_seconds": min_seconds, "max_seconds": max_seconds}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    limits = parse(Limits, {**values, "near_duplicates": near_duplicates, "prefer": tuple(prefer or ())}, "validate")
    total = sum(1 for source in sources for _ in read_rows(source))
    if not total:
        raise GovorError(f"{sources[0]} holds no rows, so there is nothing to validate.")
    rows = (row for source in sources for _, row in read_rows(source))
    with outputs(out / "kept.jsonl", out / "dropped.jsonl") as (keep, rejections):
        running = check(rows, limits, keep.clip, rejections, language, forgotten=Tombstones())
        with console.bar("validate", total) as shown:
            for report in running:
                shown.to(report.inventory, total)
    summary = report.as_dict()
    write_json(out / "validation_report.json", summary)
    if not report.kept:
        raise GovorError(
            f"None of the {total} rows can be used: {rejections.reasons()}. Each is listed in {out / 'dropped.jsonl'}."
        )
    console.result(lines(summary), summary, as_json)
    for sentence in report.advice():
        console.note(sentence)
    if move_duplicates:
        _move(out, dry_run)
    after = "preprocess" if report.warnings["longer_than_30_s"] else "split"
    console.made(
        f"{out / 'kept.jsonl'}, dropped.jsonl, validation_report.json",
        f"govor normalize {out / 'kept.jsonl'}   (then govor {after})",
    )
    exit_if(bool(rejections))


def _move(out: Path, dry_run: bool) -> None:
    from govor.corpus.duplicates import move, plan_moves
    from govor.corpus.manifests import read_rows

    dropped = (row for _, row in read_rows(out / "dropped.jsonl"))
    kept = (row["audio"] for _, row in read_rows(out / "kept.jsonl"))
    moves = list(plan_moves(dropped, kept, DUPLICATES))
    for item in moves:
        console.note(f"{'would move' if dry_run else 'moved'}  {item.source} → {item.target}: {item.reason}")
    if not dry_run and moves:
        move(moves, DUPLICATES)
        console.note(f"{len(moves)} files moved; govor validate --undo brings them back")


def _undo(as_json: bool) -> None:
    from govor.corpus.duplicates import undo

    back, failed = undo(DUPLICATES)
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
    from govor.corpus.manifests import Manifest, read_clips, rejected
    from govor.corpus.normalize import normalize_clips, normalizer
    from govor.errors import GovorError
    from govor.files import refuse_existing
    from govor.jsons import write_json
    from govor.languages import language_code

    target = out or MANIFESTS / "normalized.jsonl"
    refuse_existing(target, overwrite)
    counts: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    used: Counter[str] = Counter()
    clips = normalize_clips(read_clips(source), counts, script)
    with outputs(target, target.with_name(target.stem + ".dropped.jsonl")) as (keep, rejections):
        for clip in console.counted(clips, "normalize", len(Manifest(source))):
            try:
                language_code(clip.language)
            except GovorError as error:  # nobody can say whose rules its text wants
                rejections(rejected(clip.to_row(), "language_unknown", clip.language, "a language code", str(error)))
                continue
            used[normalizer(clip.language, script).name] += 1
            if not clip.transcript:
                message = "nothing is left of the transcript after cleaning"
                rejections(rejected(clip.to_row(), "empty_transcript", "", "some text", message))
                continue
            totals["clips"] += 1
            totals["changed"] += clip.transcript_raw is not None
            totals["files"] += beside and _write_beside(clip.audio, clip.transcript)
            keep.clip(clip)
    if not totals["clips"]:
        raise GovorError(f"No clip of {source} can be used: {rejections.reasons()}.")
    all_clips = totals["clips"] + sum(rejections.counts.values())
    summary = {
        "clips": totals["clips"],
        "changed": totals["changed"],
        "cleaned_share": round(totals["clips"] / all_clips, 4),
        "normalizers": dict(used.most_common()),
        "changes_by_rule": dict(counts.most_common()),
        "norm_txt_files": totals["files"],
        "dropped": rejections.by_rule(),
    }
    rules = {name: _examples(name, script) for name in used}
    write_json(target.with_name(target.stem + "_report.json"), {**summary, "rules": rules})
    console.result(lines(summary), summary, as_json)
    console.made(target, f"govor split {target} --name mine")
    exit_if(bool(rejections))


def _examples(name: str, script: Literal["latin", "cyrillic", "keep"]) -> list[dict[str, str]]:
    from govor.corpus.normalize import normalizer

    code = {"hebrew": "he", "malagasy": "mg", "generic": "und"}.get(name, "sr")
    rules = normalizer(code, script).rules
    return [{"rule": rule.name, "before": rule.example[0], "after": rule.example[1]} for rule in rules]


def _write_beside(audio: str, transcript: str) -> bool:
    """`x.norm.txt` where `x.txt` stands; it is never read back."""
    from govor.files import write_text

    if "#" in audio or not Path(audio).name:
        return False
    file = Path(audio).with_suffix(".txt")
    if not file.is_file():
        return False
    write_text(file.with_suffix(".norm.txt"), transcript + "\n")
    return True
