"""harvest, prepare, licenses, forget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from govor.cli import console
from govor.cli.options import Json, Language, License, Out, Overwrite, Speaker, examples, workspace
from govor.cli.summary import exit_if, lines

if TYPE_CHECKING:
    from govor.corpus.records import Row

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command(
        epilog=examples(
            "govor harvest https://example.org/talk.mp3 --license CC-BY-4.0 --language hr",
            "govor harvest urls.txt --license own",
            "govor harvest urls.csv --downloader http://localhost:9000/download",
        )
    )(harvest)
    app.command(
        epilog=examples(
            "govor prepare ivrit-round3 --dry-run",
            "govor prepare ivrit-recital --shards 2",
            "govor prepare fillets-cs",
            "govor prepare google/fleurs --split test --language he",
        )
    )(prepare)
    app.command(
        epilog=examples(
            "govor licenses manifests/normalized.jsonl",
            "govor licenses manifests/normalized.jsonl --state own --source tape-3",
        )
    )(licenses)
    app.command(epilog=examples("govor forget --speaker anna --dry-run", "govor forget --source tape-3"))(forget)


def harvest(
    sources: Annotated[
        list[str], typer.Argument(metavar="LIST|URL…", help="URLs, or lists of them: .txt, .csv, .jsonl.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the recordings.")] = Path("uploads"),
    language: Language = None,
    license: License = None,
    speaker: Speaker = None,
    downloader: Annotated[
        str | None,
        typer.Option(
            help='Your own endpoint: it gets {"url"} by POST, and answers audio or JSON that names it.',
            show_default=False,
        ),
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch from private addresses as well.")
    ] = False,
    ytdlp: Annotated[bool, typer.Option("--ytdlp/--no-ytdlp", help="Give what is no direct link to yt-dlp.")] = True,
    max_gigabytes: Annotated[float, typer.Option(help="Largest recording taken.")] = 4.0,
    as_json: Json = False,
) -> None:
    """Fetch recordings with provenance and licence, then bring the inventory up to date. Run it again to go on."""
    from govor.corpus.download import Options
    from govor.corpus.harvest import harvest as fetch
    from govor.corpus.harvest import read_items
    from govor.corpus.provenance import Provenance

    stated = Provenance(license=license, language=language, speaker=speaker)
    items = list(read_items(workspace(), sources, stated))
    options = Options(out, allow_private, downloader, int(max_gigabytes * 1e9), ytdlp)
    done = fetch(workspace(), items, options, console)
    console.result(lines(done.as_dict()), done.as_dict(), as_json)
    if done.counts["quarantined"]:
        console.note("quarantined items have no known licence: state it with --license, or in their .provenance.json")
    listed = done.inventory and workspace().as_given(done.inventory.rows_file)
    console.made(workspace().as_given(out), f"govor validate {listed}" if listed else None)
    exit_if(bool(done.failed))


def prepare(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A dataset or collection of the registry, or a Hub id.")
    ],
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Which splits; the first by default.", show_default=False)
    ] = None,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many shards.", show_default=False)
    ] = None,
    layout: Annotated[
        Literal["govor", "qwen3-asr"], typer.Option(help="qwen3-asr: also 16 kHz WAV files and Qwen3-ASR's JSONL.")
    ] = "govor",
    registry: Annotated[
        Path | None, typer.Option("--registry", help="Your own sources.yaml, on top of ours.", show_default=False)
    ] = None,
    language: Language = None,
    license: License = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Plan, then fetch a known dataset: encoded audio in blobs, a manifest, licences in every row. Run again to go on."""
    from dataclasses import replace

    from govor.corpus.datasets import prepare as fetch
    from govor.corpus.inventory import Statement
    from govor.corpus.sources import plan

    planned = plan(source, tuple(split or ()), registry)
    if shards:
        planned = [replace(item, shards=item.shards[:shards]) for item in planned]
    rows = [item.as_dict() for item in planned]
    wanted = any(item.skipped is None for item in planned)
    if dry_run or not wanted:
        console.result(_plan_lines(rows), {"plan": rows}, as_json)
        exit_if(not wanted)
        return
    console.note(_plan_lines(rows))
    datasets = fetch(workspace(), planned, Statement(language, license), layout, overwrite, console)
    made = [item.as_dict(workspace()) for item in datasets]
    text = "\n".join(f"{row['dataset']:<22}{row['clips']:>9} clips  {row['manifest']}" for row in made)
    console.result(text, {"plan": rows, "made": made}, as_json)
    console.made(", ".join(row["manifest"] for row in made), f"govor validate {made[0]['manifest']}")
    exit_if(any(item.dropped for item in datasets))


def _plan_lines(rows: list[Row]) -> str:
    out = [f"{'dataset':<24}{'hours':>7}{'rows':>10}{'GB':>8}  licence"]
    for row in rows:
        size = "?" if row["gigabytes"] is None else f"{'' if row['gigabytes_known'] else '~'}{row['gigabytes']:.2f}"
        hours = "?" if row["hours"] is None else f"{row['hours']:g}"
        out.append(f"{row['dataset']:<24}{hours:>7}{row['rows'] or '?':>10}{size:>8}  {row['license']}")
        for name in ("extra_terms", "skipped", "note"):
            if row[name]:
                out.append(f"    {'terms' if name == 'extra_terms' else name}: {row[name]}")
    planned = [row for row in rows if not row["skipped"]]
    sums = {name: sum(row[name] or 0 for row in planned) for name in ("hours", "rows", "gigabytes")}
    out.append(f"{'in all':<24}{sums['hours']:>7g}{sums['rows']:>10}{sums['gigabytes']:>8.2f}")
    return "\n".join(out)


def licenses(
    source: Annotated[Path, typer.Argument(metavar="MANIFEST")],
    state: Annotated[
        str | None,
        typer.Option(
            "--state", help="State this licence for rows that have none, or for those chosen.", show_default=False
        ),
    ] = None,
    chosen: Annotated[
        list[str] | None, typer.Option("--source", help="Only rows of this source or dataset.", show_default=False)
    ] = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Count licences, say what they allow, write DATA_LICENSES.md; or state the licence of rows."""
    from govor.corpus.rights import list_licenses, state_license

    shown = workspace().as_given
    if state is not None:
        name, count = state_license(source, state, chosen or [])
        console.note(f"{count} rows of {shown(source)} are now under {name}")
    done = list_licenses(workspace(), source, out, overwrite or state is not None)
    text = "\n".join(
        f"{name:<20}{row['clips']:>9} clips {row['hours']:>10.2f} h   train {_yes(row['train'])}, publish {_yes(row['publish'])}"
        for name, row in done.by_name.items()
    )
    console.result(text, done.by_name, as_json)
    console.made(shown(done.document), f"govor licenses {shown(source)} --state LICENSE" if done.refused else None)
    exit_if(done.refused)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def forget(
    speaker: Annotated[str | None, typer.Option("--speaker", help="Whose recordings.", show_default=False)] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Of which source or dataset.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove a speaker's or a source's rows and audio from the workspace, and name the runs that had used them."""
    from govor.corpus.forget import forget as remove
    from govor.corpus.wishes import Wish
    from govor.errors import GovorError

    if (speaker is None) == (source is None):
        raise GovorError("Name either --speaker or --source: who or what is to be forgotten.")
    wish = Wish("speaker", speaker) if speaker is not None else Wish("source", str(source))
    removal = remove(workspace(), wish, dry_run)
    summary = removal.as_dict()
    console.result(_forget_lines(summary, dry_run), {**summary, "dry_run": dry_run}, as_json)
    if removal.runs:
        console.note("models stay as they are: train them again without these rows, or withdraw them")
    exit_if(bool(removal.kept_audio or removal.left))


def _forget_lines(summary: Row, dry_run: bool) -> str:
    did = "would remove" if dry_run else "removed"
    out = [
        f"{did} {summary['clips']} clips: {summary['audio_files']} audio files, {summary['audio_spans_blanked']} spans of blobs"
    ]
    out += [f"  {count} rows of {name}" for name, count in summary["rows_by_file"].items()]
    out += [
        f"  {count} rows of {name} lost their context" for name, count in summary["contexts_emptied_by_file"].items()
    ]
    for key, words in (
        ("outputs_removed", "results of that audio, removed as well"),
        ("audio_kept_for_others", "audio that other rows still need, so it stays"),
        ("runs_that_used_them", "runs and models that used them"),
        ("runs_that_cannot_be_checked", "runs whose manifests have changed since, so nobody can tell"),
        ("files_that_still_hold_them", "files that still hold or show them; remove them or make them anew"),
        (
            "files_beside_the_audio_that_name_them",
            "files beside the audio that name them, not touched; change them by hand",
        ),
        ("names_that_differ_by_case", "not touched, since only the case of the name differs"),
    ):
        if summary[key]:
            out.append(f"{words}: {', '.join(summary[key])}")
    return "\n".join(out)
