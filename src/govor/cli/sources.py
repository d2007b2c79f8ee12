"""harvest, prepare, licenses, forget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from govor.cli import console
from govor.cli.options import Json, Language, License, Out, Overwrite, Speaker, examples
from govor.cli.summary import MANIFESTS, Rejections, exit_if, lines

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
    from govor.cli.scan import take_inventory
    from govor.corpus.harvest import Options, read_items
    from govor.corpus.harvest import harvest as fetch
    from govor.corpus.inventory import Statement, find_recordings
    from govor.corpus.manifests import rejected, row_writer
    from govor.corpus.provenance import Provenance

    stated = Provenance(license=license, language=language, speaker=speaker)
    items = list(read_items(sources, stated))
    options = Options(out, allow_private, downloader, int(max_gigabytes * 1e9), ytdlp)
    counts: Counter[str] = Counter()
    out.mkdir(parents=True, exist_ok=True)
    with row_writer(out / "harvest_failed.jsonl") as write:
        failed = Rejections(write)
        for outcome in console.counted(fetch(items, options, console.note), "harvest", len(items)):
            if outcome.path is None:
                failed(rejected({"url": outcome.item.url}, str(outcome.rule), message=outcome.message))
                console.note(f"failed  {outcome.message}")
                continue
            counts["already_there" if outcome.reused else "fetched"] += 1
            counts["quarantined"] += outcome.quarantined
    if not failed:
        (out / "harvest_failed.jsonl").unlink()
    summary: dict[str, Any] = {
        **{name: counts[name] for name in ("fetched", "already_there", "quarantined")},
        "failed": failed.by_rule(),
    }
    total = sum(1 for _ in find_recordings(out))
    target = MANIFESTS / "dataset_inventory.jsonl"
    if total:
        summary["inventory"] = take_inventory([out], Statement(), target, total, resume=True)["recordings"]
    console.result(lines(summary), summary, as_json)
    if counts["quarantined"]:
        console.note("quarantined items have no known licence: state it with --license, or in their .provenance.json")
    console.made(out, f"govor validate {target}" if total else None)
    exit_if(bool(failed))


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

    from govor.corpus.manifests import Manifest
    from govor.corpus.sources import plan
    from govor.errors import GovorError
    from govor.files import refuse_existing

    planned = plan(source, tuple(split or ()), registry)
    if shards:
        planned = [replace(item, shards=item.shards[:shards]) for item in planned]
    rows = [item.as_dict() for item in planned]
    wanted = [item for item in planned if item.skipped is None]
    if dry_run or not wanted:
        console.result(_plan_lines(rows), {"plan": rows}, as_json)
        exit_if(not wanted)
        return
    console.note(_plan_lines(rows))
    _check_space(sum(item.gigabytes or 0 for item in wanted))
    made: list[dict[str, Any]] = []
    for item in wanted:
        target = MANIFESTS / f"{item.name}.jsonl"
        if (
            len(wanted) > 1 and target.exists() and not overwrite
        ):  # the run of a collection was cut short after this one
            console.note(f"{target} is there already")
            made.append({"dataset": item.name, "manifest": str(target), "clips": len(Manifest(target))})
            continue
        refuse_existing(target, overwrite)
        if item.dataset.kind == "debian":
            made.append({"dataset": item.name, "manifest": str(target), "clips": _debian(item, target)})
        elif not item.shards:
            raise GovorError(f"{item.name} cannot be fetched: {item.note}. Nothing was written.")
        else:
            made.append(_hub(item, target, language, license))
        if layout == "qwen3-asr":
            made[-1]["qwen3_asr"] = _qwen_layout(target, item.name)
    text = "\n".join(f"{row['dataset']:<22}{row['clips']:>9} clips  {row['manifest']}" for row in made)
    console.result(text, {"plan": rows, "made": made}, as_json)
    console.made(", ".join(row["manifest"] for row in made), f"govor validate {made[0]['manifest']}")
    exit_if(any(row.get("dropped") for row in made))


def _hub(item: Any, target: Path, language: str | None, license: str | None) -> dict[str, Any]:
    from govor.corpus.prepare import prepare_hub
    from govor.errors import GovorError

    folder = Path("data") / "sources" / item.name
    with console.bar(f"prepare {item.name}", len(item.shards)) as shown:
        for number, done in prepare_hub(item, folder, target, language, license):
            shown.to(number, len(item.shards), f"{done.clips} clips")
    if not done.clips:
        reasons = ", ".join(f"{count} {rule}" for rule, count in done.dropped.items())
        raise GovorError(
            f"{item.name} holds no usable row ({reasons}); they are listed in {target.stem}.dropped.jsonl."
        )
    return {
        "dataset": item.name,
        "manifest": str(target),
        "clips": done.clips,
        "hours": round(done.hours, 3),
        "dropped": dict(done.dropped),
        "reused_shards": done.reused_shards,
    }


def _debian(item: Any, target: Path) -> int:
    from govor.corpus import fillets, prompts
    from govor.corpus.manifests import read_clips, write_clips

    if item.name.startswith("asterisk-"):
        source = prompts.prepare(item.dataset.language, console.note)
    else:
        source = fillets.prepare(console.note)
    clips = (clip.replace(extra={**clip.extra, "dataset": item.name}) for clip in read_clips(source))
    return write_clips(target, clips)


def _qwen_layout(manifest: Path, name: str) -> str:
    """WAV files and the JSONL that Qwen3-ASR's own fine-tuning script reads."""
    from govor.corpus.formats import export
    from govor.corpus.manifests import Manifest, row_writer
    from govor.corpus.preprocess import PreprocessSettings, preprocess
    from govor.corpus.vad import Vad

    clips = Manifest(manifest)
    settings = PreprocessSettings(min_source_seconds=PreprocessSettings().min_seconds)  # clips of a dataset are slices
    results = preprocess(clips, Path("data") / "processed" / f"{name}-wav", settings, Vad("energy"), resume=True)
    target = manifest.with_name(f"{name}.qwen3-asr.jsonl")
    shown = console.counted(results, "write WAV", len(clips))
    with row_writer(target.with_name(f"{name}.qwen3-asr.dropped.jsonl")) as drop:

        def kept() -> Iterator[Any]:
            for result in shown:
                for row in result.dropped:
                    drop(row)
                yield from result.clips

        export(kept(), "qwen3-asr", target)
    return str(target)


def _plan_lines(rows: list[dict[str, Any]]) -> str:
    out = [f"{'dataset':<24}{'hours':>7}{'rows':>10}{'GB':>8}  licence"]
    for row in rows:
        size = "?" if row["gigabytes"] is None else f"{'' if row['gigabytes_known'] else '~'}{row['gigabytes']:.2f}"
        hours = "?" if row["hours"] is None else f"{row['hours']:g}"
        out.append(f"{row['dataset']:<24}{hours:>7}{row['rows'] or '?':>10}{size:>8}  {row['license']}")
        for name in ("extra_terms", "skipped", "note"):
            if row[name]:
                out.append(f"    {'terms' if name == 'extra_terms' else name}: {row[name]}")
    kept = [row for row in rows if not row["skipped"]]
    sums = {name: sum(row[name] or 0 for row in kept) for name in ("hours", "rows", "gigabytes")}
    out.append(f"{'in all':<24}{sums['hours']:>7g}{sums['rows']:>10}{sums['gigabytes']:>8.2f}")
    return "\n".join(out)


def _check_space(gigabytes: float) -> None:
    """The blobs, and one shard beside them."""
    import shutil

    from govor.errors import GovorError

    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if gigabytes * 1.05 + 0.6 > free:
        raise GovorError(
            f"{gigabytes:.1f} GB would be fetched and {free:.1f} GB are free here; free some space, take another --workspace, or fewer --shards."
        )


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
    from govor.corpus.licenses import UNKNOWN, document, license_stated, summary
    from govor.corpus.manifests import Manifest
    from govor.errors import GovorError
    from govor.files import refuse_existing, write_text

    if state is not None:
        name = license_stated(state)
        if name == UNKNOWN:
            raise GovorError("State a licence: own for your own recordings, an SPDX identifier, or custom:NAME.")
        count = _state(source, name, chosen or [])
        if chosen and not count:
            raise GovorError(
                f"No row of {source} is of the source or dataset {' or '.join(map(repr, chosen))}; nothing was stated."
            )
        console.note(f"{count} rows of {source} are now under {name}")
    clips = Manifest(source)
    values = summary(clips)
    target = out or Path("DATA_LICENSES.md")
    refuse_existing(target, overwrite or out is None or state is not None)
    write_text(target, document(clips))
    text = "\n".join(
        f"{name:<20}{row['clips']:>9} clips {row['hours']:>10.2f} h   train {_yes(row['train'])}, publish {_yes(row['publish'])}"
        for name, row in values.items()
    )
    console.result(text, values, as_json)
    refused = not all(row["train"] for row in values.values())
    console.made(target, f"govor licenses {source} --state LICENSE" if refused else None)
    exit_if(refused)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _state(source: Path, license: str, chosen: list[str]) -> int:
    from govor.corpus.forget import same_source
    from govor.corpus.licenses import canonical
    from govor.corpus.manifests import read_rows, row_writer

    count = 0
    with row_writer(source) as write:
        for _, row in read_rows(source):
            if chosen:
                meant = any(same_source(row, name) for name in chosen)
            else:
                meant = canonical(row.get("license")) is None
            if meant:
                row["license"] = license
                count += 1
            write(row)
    return count


def forget(
    speaker: Annotated[str | None, typer.Option("--speaker", help="Whose recordings.", show_default=False)] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Of which source or dataset.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove a speaker's or a source's rows and audio from the workspace, and name the runs that had used them."""
    from govor.corpus.forget import Wish, carry_out, plan
    from govor.errors import GovorError

    if (speaker is None) == (source is None):
        raise GovorError("Name either --speaker or --source: who or what is to be forgotten.")
    wish = Wish("speaker", speaker) if speaker is not None else Wish("source", str(source))
    found = plan(wish)
    if not dry_run:
        carry_out(wish, found)
    summary = found.as_dict()
    console.result(_forget_lines(summary, dry_run), {**summary, "dry_run": dry_run}, as_json)
    if found.runs:
        console.note("models stay as they are: train them again without these rows, or withdraw them")
    exit_if(bool(found.kept_audio or found.left))


def _forget_lines(summary: dict[str, Any], dry_run: bool) -> str:
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
