"""inventory, manifest, validate, normalize, split."""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from govor.cli import console
from govor.cli.options import Json, Language, License, Out, Overwrite, Speaker, examples

MANIFESTS = Path("manifests")


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command(
        epilog=examples("govor inventory recordings/", "govor inventory old/ new/ --language he --license own")
    )(inventory)
    app.command(
        epilog=examples(
            "govor manifest recordings/ --language he",
            "govor manifest nemo.jsonl",
            "govor manifest mine.jsonl --to nemo",
        )
    )(manifest)
    app.command(
        epilog=examples(
            "govor validate manifests/dataset_inventory.jsonl",
            "govor validate manifests/mine.jsonl --max-seconds 20",
        )
    )(validate)
    app.command(epilog=examples("govor normalize manifests/kept.jsonl"))(normalize)
    app.command(
        epilog=examples(
            "govor split manifests/normalized.jsonl --name mine",
            "govor split manifests/normalized.jsonl --name mine --allow-overlap speaker",
        )
    )(split)


def inventory(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders of recordings.")],
    out: Out = None,
    language: Language = None,
    license: License = None,
    speaker: Speaker = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """List every recording below some folders, readable or not, as CSV and JSONL."""
    from govor.corpus.inventory import Statement, find_recordings, write_csv
    from govor.corpus.inventory import inventory as scan
    from govor.corpus.manifests import write_rows
    from govor.errors import GovorError
    from govor.files import refuse_existing

    target = out or MANIFESTS / "dataset_inventory.jsonl"
    if target.suffix != ".jsonl":
        raise GovorError(f"{target} must end in .jsonl; the spreadsheet is written beside it as .csv.")
    for file in (target, target.with_suffix(".csv")):
        refuse_existing(file, overwrite)
    total = sum(1 for folder in folders for _ in find_recordings(folder))
    if not total:
        raise GovorError(
            f"No recordings were found below {', '.join(map(str, folders))}; wav, flac, mp3, ogg, opus, m4a, webm and mp4 are looked for."
        )
    rows = list(console.counted(scan(folders, Statement(language, license, speaker)), "inventory", total))
    write_rows(target, rows)
    write_csv(target.with_suffix(".csv"), rows)
    failed = [row for row in rows if row["error"]]
    summary = {
        "recordings": len(rows),
        "hours": round(sum(row["duration"] or 0 for row in rows) / 3600, 3),
        "with_transcript": sum(row["transcript_present"] for row in rows),
        "duplicates": sum(bool(row["duplicate"]) for row in rows),
        "unreadable": len(failed),
        "license_unknown": sum(row["license"] is None for row in rows),
    }
    for row in failed[:10]:
        console.note(f"unreadable  {row['error']}")
    console.result(_lines(summary), summary, as_json)
    console.made(f"{target} and {target.with_suffix('.csv')}", f"govor validate {target}")
    _exit_if(bool(failed))


def manifest(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="A folder of x.wav + x.txt, an audiofolder, NeMo JSONL, metadata.csv or a govor manifest.",
        ),
    ],
    to: Annotated[Literal["govor", "nemo"], typer.Option("--to", help="Layout to write.")] = "govor",
    out: Out = None,
    language: Language = None,
    license: License = None,
    speaker: Speaker = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Turn a folder or another tool's manifest into a JSONL manifest."""
    from govor.corpus.convert import read_source, to_nemo
    from govor.corpus.inventory import Statement
    from govor.corpus.manifests import write_rows
    from govor.errors import GovorError
    from govor.files import refuse_existing

    target = out or MANIFESTS / f"{source.resolve().stem}{'' if to == 'govor' else '.nemo'}.jsonl"
    if target.resolve() == source.resolve():
        raise GovorError(f"{target} would be written over its own source; give another --out.")
    refuse_existing(target, overwrite)
    dropped: list[dict[str, Any]] = []
    clips = list(
        console.counted(read_source(source, Statement(language, license, speaker), dropped.append), "manifest", None)
    )
    if not clips:
        raise GovorError(f"No usable clip was found in {source}: {_reasons(dropped)}.")
    write_rows(target, (to_nemo(clip) if to == "nemo" else clip.to_row() for clip in clips))
    summary = {
        "clips": len(clips),
        "hours": round(sum(c.duration for c in clips) / 3600, 3),
        "dropped": _counts(dropped),
    }
    _write_dropped(target.with_name(target.stem + ".dropped.jsonl"), dropped)
    console.result(_lines(summary), summary, as_json)
    console.made(target, f"govor validate {target}" if to == "govor" else None)
    _exit_if(bool(dropped))


def validate(
    source: Annotated[
        Path, typer.Argument(metavar="INVENTORY", help="What `govor inventory` or `govor manifest` wrote.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for kept.jsonl, dropped.jsonl and validation_report.json.")
    ] = MANIFESTS,
    language: Language = None,
    min_seconds: Annotated[float | None, typer.Option(help="Shortest clip kept [0.5].", show_default=False)] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Longest clip kept [30].", show_default=False)] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Decode every recording once; keep what is sound, write down why the rest is not."""
    from govor.config import parse
    from govor.corpus.manifests import read_rows, write_clips, write_rows
    from govor.corpus.records import Clip
    from govor.corpus.validate import Limits
    from govor.corpus.validate import validate as check
    from govor.errors import GovorError
    from govor.files import refuse_existing, write_json

    refuse_existing(out / "kept.jsonl", overwrite)
    given = {"min_seconds": min_seconds, "max_seconds": max_seconds}
    limits = parse(Limits, {name: value for name, value in given.items() if value is not None}, "validate")
    total = sum(1 for _ in read_rows(source))
    kept: list[Clip] = []
    dropped: list[dict[str, Any]] = []
    rows = (row for _, row in read_rows(source))
    running = check(rows, limits, kept.append, dropped.append, language)
    last = deque(console.counted(running, "validate", total), maxlen=1)
    if not last:
        raise GovorError(f"{source} holds no rows, so there is nothing to validate.")
    write_clips(out / "kept.jsonl", kept)
    write_rows(out / "dropped.jsonl", dropped)
    summary = last[0].as_dict()
    write_json(out / "validation_report.json", summary)
    if not kept:
        raise GovorError(
            f"None of the {total} rows can be used: {_reasons(dropped)}. Each is listed in {out / 'dropped.jsonl'}."
        )
    console.result(_lines(summary), summary, as_json)
    console.made(
        f"{out / 'kept.jsonl'}, dropped.jsonl, validation_report.json",
        f"govor normalize {out / 'kept.jsonl'}",
    )
    _exit_if(bool(dropped))


def normalize(
    source: Annotated[Path, typer.Argument(metavar="MANIFEST")],
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Clean the transcripts for training; the originals stay in `transcript_raw`."""
    from govor.corpus.manifests import Manifest, read_clips, write_clips, write_rows
    from govor.corpus.normalize import normalize_clips
    from govor.corpus.records import Clip
    from govor.errors import GovorError
    from govor.files import refuse_existing, write_json

    target = out or MANIFESTS / "normalized.jsonl"
    refuse_existing(target, overwrite)
    counts: Counter[str] = Counter()
    kept: list[Clip] = []
    dropped: list[dict[str, Any]] = []
    for clip in console.counted(normalize_clips(read_clips(source), counts), "normalize", len(Manifest(source))):
        if clip.transcript:
            kept.append(clip)
        else:
            message = "nothing is left of the transcript after cleaning"
            dropped.append(
                {
                    "row": clip.to_row(),
                    "rule": "empty_transcript",
                    "measured": "",
                    "limit": "some text",
                    "message": message,
                }
            )
    if not kept:
        raise GovorError(f"{source} holds no clip with a transcript.")
    write_clips(target, kept)
    write_rows(target.with_name(target.stem + ".dropped.jsonl"), dropped)
    summary = {
        "clips": len(kept),
        "changed": sum(clip.transcript_raw is not None for clip in kept),
        "changes_by_rule": dict(counts.most_common()),
        "dropped": _counts(dropped),
    }
    write_json(target.with_name(target.stem + "_report.json"), summary)
    console.result(_lines(summary), summary, as_json)
    console.made(target, f"govor split {target} --name mine")
    _exit_if(bool(dropped))


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
    from govor.corpus.manifests import read_clips
    from govor.corpus.split import SplitSettings
    from govor.corpus.split import split as divide
    from govor.files import refuse_existing
    from govor.runs import check_name

    target = MANIFESTS / "splits" / check_name(name or source.stem)
    refuse_existing(target, overwrite, "--overwrite to replace it, or another --name")
    values = {
        "validation_share": validation_share,
        "test_share": test_share,
        "seed": seed,
        "allow_overlap": tuple(allow_overlap or ()),
    }
    division = divide(read_clips(source), parse(SplitSettings, values, "split"))
    write_split(target, division)
    proof = division.proof
    summary = {"parts": proof["parts"], "overlaps": proof["overlaps"], "dropped": proof["dropped"]}
    console.result(_split_lines(proof), summary, as_json)
    console.made(
        f"{target}/ with train, validation, test and proof.json",
        f"govor train whisper --set data.split={target} --set name={target.name}-1",
    )
    if not division.clean:
        console.note("overlap was allowed and counted; the proof is marked, and the exit code is 1")
    _exit_if(not division.clean)


def write_split(target: Path, division: Any) -> None:
    """The split's folder, whole or not at all."""
    from govor.corpus.manifests import write_clips, write_rows
    from govor.files import atomic_folder, write_json

    with atomic_folder(target, "the split", replace=True) as folder:
        for part, clips in division.parts.items():
            write_clips(folder / f"{part}.jsonl", clips)
        dropped = (
            {
                "row": clip.to_row(),
                "rule": rule,
                "measured": clip.transcript,
                "limit": "unseen sentence",
                "message": "the sentence stands in a held-out part",
            }
            for clip, rule in division.dropped
        )
        write_rows(folder / "dropped.jsonl", dropped)
        write_json(folder / "proof.json", division.proof)


def _split_lines(proof: dict[str, Any]) -> str:
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


def _lines(summary: dict[str, Any]) -> str:
    def shown(value: Any) -> str:
        return (
            ", ".join(f"{key} {count}" for key, count in value.items()) or "none"
            if isinstance(value, dict)
            else str(value)
        )

    return "\n".join(f"{name.replace('_', ' '):<18}{shown(value)}" for name, value in summary.items())


def _counts(dropped: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(row["rule"] for row in dropped).most_common())


def _reasons(dropped: list[dict[str, Any]]) -> str:
    if not dropped:
        return "there were no recordings"
    counts = ", ".join(f"{count} {rule}" for rule, count in _counts(dropped).items())
    return f"{counts} (first: {str(dropped[0]['message']).rstrip('.')})"


def _write_dropped(path: Path, dropped: list[dict[str, Any]]) -> None:
    from govor.corpus.manifests import write_rows

    if dropped:
        write_rows(path, dropped)
    else:
        path.unlink(missing_ok=True)


def _exit_if(failed: bool) -> None:
    if failed:
        raise typer.Exit(1)
