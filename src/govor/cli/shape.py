"""preprocess, split, balance, augment."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from govor.cli import console
from govor.cli.options import Json, Overwrite, examples
from govor.cli.summary import MANIFESTS, exit_if


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
    from govor.cli.summary import lines, outputs
    from govor.config import parse
    from govor.corpus.manifests import Manifest, read_clips
    from govor.corpus.preprocess import PreprocessSettings
    from govor.corpus.preprocess import preprocess as process
    from govor.corpus.vad import open_vad
    from govor.errors import GovorError
    from govor.files import refuse_existing
    from govor.jsons import read_json, write_json
    from govor.runs import check_name, plain_name

    name = check_name(name or f"{plain_name(source.stem)}-16k")
    target, folder = MANIFESTS / f"{name}.jsonl", Path("data") / "processed" / name
    if target.resolve() == source.resolve():
        raise GovorError(f"{target} would be written over its own source; give another --name.")
    refuse_existing(target, overwrite or resume, "--resume to go on, --overwrite to replace it, or another --name")
    refuse_existing(folder, overwrite or resume, "--resume to go on, --overwrite to replace it, or another --name")
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
    detector = open_vad(vad, console.note)
    record, kept_as = {**settings.model_dump(), "vad": detector.name}, folder / "preprocess.json"
    if resume and kept_as.exists() and {"channels": "mix", **read_json(kept_as)} != record:
        raise GovorError(f"{folder} was begun with other settings; give the same ones, another --name, or --overwrite.")
    clips = Manifest(source)
    write_json(kept_as, record)
    hours = {"in": 0.0, "out": 0.0}
    with outputs(target, target.with_name(f"{name}.dropped.jsonl")) as (keep, rejections):
        results = process(read_clips(source), folder, settings, detector, resume=resume)
        for result in console.counted(results, "preprocess", len(clips)):
            hours["in"] += result.seconds / 3600
            for clip in result.clips:
                keep.clip(clip)
                hours["out"] += clip.duration / 3600
            for row in result.dropped:
                rejections(row)
    if not keep.count:
        kept_as.unlink()
        with suppress(OSError):
            folder.rmdir()
        raise GovorError(f"None of the {len(clips)} recordings can be used: {rejections.reasons()}.")
    summary = {
        "recordings": len(clips),
        "clips": keep.count,
        "hours_in": round(hours["in"], 3),
        "hours_out": round(hours["out"], 3),
        "pauses_found_by": detector.name,
        "dropped": rejections.by_rule(),
    }
    console.result(lines(summary), summary, as_json)
    console.made(f"{target}, audio in {folder}/", f"govor split {target} --name {name}")
    exit_if(bool(rejections))


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
    from govor.corpus.manifests import Manifest
    from govor.corpus.split import SplitSettings
    from govor.corpus.split import split as divide
    from govor.files import refuse_existing
    from govor.runs import check_name, plain_name

    target = MANIFESTS / "splits" / check_name(name or plain_name(source.stem))
    refuse_existing(target, overwrite, "--overwrite to replace it, or another --name")
    values = {
        "validation_share": validation_share,
        "test_share": test_share,
        "seed": seed,
        "allow_overlap": tuple(allow_overlap or ()),
    }
    division = divide(Manifest(source), parse(SplitSettings, values, "split"))
    write_split(target, division)
    proof = division.proof
    summary = {name: proof[name] for name in ("parts", "overlaps", "skew", "dropped")}
    console.result(_split_lines(proof), summary, as_json)
    if proof["longer_than_30_s"]:
        console.note(
            f"{proof['longer_than_30_s']} clips are longer than 30 s and cannot train: run govor preprocess first"
        )
    console.made(
        f"{target}/ with train, validation, test and proof.json",
        f"govor train whisper --set data.split={target} --set name={target.name}-1",
    )
    if not division.clean:
        console.note("overlap was allowed and counted; the proof is marked, and the exit code is 1")
    exit_if(not division.clean)


def write_split(target: Path, division: Any, at_most: dict[str, int] | None = None) -> None:
    """The split's folder, whole or not at all; `at_most` limits the clips of a part."""
    from contextlib import ExitStack

    from govor.corpus.manifests import rejected, row_writer
    from govor.corpus.split import PARTS
    from govor.files import atomic_folder
    from govor.jsons import write_json

    message = "the sentence stands in a held-out part"
    with atomic_folder(target, "the split", replace=True) as folder:
        with ExitStack() as stack:
            writers = {part: stack.enter_context(row_writer(folder / f"{part}.jsonl")) for part in PARTS}
            drop = stack.enter_context(row_writer(folder / "dropped.jsonl"))
            for clip, part, rule in division.rows():
                if part is None:
                    drop(rejected(clip.to_row(), rule, clip.transcript, "unseen sentence", message))
                elif writers[part].count < (at_most or {}).get(part, 1 << 62):
                    writers[part].clip(clip)
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
    from govor.cli.summary import lines
    from govor.corpus.manifests import Manifest
    from govor.errors import GovorError
    from govor.examples.augment import CONFIG, Augmenter, AugmentSettings, load_settings
    from govor.files import refuse_existing
    from govor.runs import check_name, plain_name

    chosen = config or (CONFIG if CONFIG.exists() else None)
    augmenter = Augmenter.of(load_settings(chosen) if chosen else AugmentSettings())
    console.note(f"settings: {chosen or 'the defaults'}")
    manifest = Manifest(source)
    if not len(manifest):
        raise GovorError(f"{source} holds no clips, so there is nothing to augment.")
    if preview is not None:
        _preview(manifest, augmenter, preview, clips, overwrite)
        return
    name = check_name(name or f"{plain_name(source.stem)}-augmented")
    target = MANIFESTS / f"{name}.jsonl"
    if target.resolve() == source.resolve():
        raise GovorError(f"{target} would be written over its own source; give another --name.")
    refuse_existing(target, overwrite, "--overwrite to replace it, or another --name")
    summary = _augment_all(manifest, augmenter, target, Path("data") / "augmented" / name, copies, keep_originals)
    console.result(lines(summary), summary, as_json)
    console.note("augment training rows only: a held-out part is judged as it was recorded")
    console.made(target)
    exit_if(bool(summary["dropped"]))


def _augment_all(
    manifest: Any, augmenter: Any, target: Path, folder: Path, copies: int, keep_originals: bool
) -> dict[str, Any]:
    from collections import Counter
    from functools import partial

    from govor import engine
    from govor.cli.summary import outputs
    from govor.corpus.manifests import read_clips
    from govor.examples.copies import write_copy

    effects: Counter[str] = Counter()
    with outputs(target, target.with_name(f"{target.stem}.dropped.jsonl")) as (keep, rejections):
        if keep_originals:
            for clip in read_clips(manifest.path):
                keep.clip(clip)
        work = ((clip, draw) for clip in read_clips(manifest.path) for draw in range(copies))
        results = engine.map(work, partial(write_copy, augmenter=augmenter, folder=folder), "processes")
        for clip, done, rejection in console.counted(results, "augment", copies * len(manifest)):
            if rejection:
                rejections(rejection)
                continue
            keep.clip(clip)
            effects.update(note.split()[0] for note in done)
            effects["untouched"] += not done
    return {"clips": keep.count, "effects": dict(effects.most_common()), "dropped": rejections.by_rule()}


def _preview(manifest: Any, augmenter: Any, page: Path, count: int, overwrite: bool) -> None:
    from govor.corpus.samples import clip_samples
    from govor.examples.preview import page as render
    from govor.files import refuse_existing, write_text

    refuse_existing(page, overwrite)
    step = max(1, len(manifest) // count)
    chosen = [manifest[number] for number in range(0, len(manifest), step)][:count]
    shown = [(clip.id, clip.transcript, clip_samples(clip)) for clip in console.counted(chosen, "preview", len(chosen))]
    write_text(page, render(augmenter, shown, draws=2))
    console.made(page, f"open {page}")


def balance(
    source: Annotated[Path, typer.Argument(metavar="MANIFEST")],
    out: Annotated[Path, typer.Option("--out", help="The JSON; the page goes to reports/.")] = MANIFESTS
    / "dataset_balance.json",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Speakers, dialects, languages, noise, lengths and vocabulary, with recommendations, as JSON and a page."""
    from govor.corpus.balance import Balance, page
    from govor.corpus.manifests import Manifest
    from govor.errors import GovorError
    from govor.files import refuse_existing, write_text
    from govor.jsons import write_json

    refuse_existing(out, overwrite)
    manifest = Manifest(source)
    counted = Balance()
    for clip in console.counted(manifest, "balance", len(manifest)):
        counted.see(clip)
    if not counted.clips:
        raise GovorError(f"{source} holds no clips, so there is nothing to weigh.")
    values = counted.as_dict()
    shown = Path("reports") / "balance" / f"{source.stem}.html"
    write_json(out, values)
    write_text(shown, page(source.stem, values))
    console.result("\n".join(f"- {line}" for line in values["recommendations"]), values, as_json)
    console.made(f"{out} and {shown}", f"govor split {source} --name mine")
