"""evaluate, rescore: a model here or on a server, on one manifest or a suite of known sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from govor.cli import console
from govor.cli.models import Device, Engine, EngineName, Precision, PrecisionName, check_model
from govor.cli.options import Json, Overwrite, examples, refuse_given, was_given
from govor.cli.summary import exit_if
from govor.runs import Workspace

Context = Literal["padded", "speech", "both"]
Contexts = tuple[Literal["padded", "speech"], ...]
_OF_SUITES, _OF_SERVERS = ("suite_data", "hear_training"), ("concurrency",)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(
        epilog=examples(
            "govor evaluate openai/whisper-base --manifest manifests/splits/mine/test.jsonl",
            "govor evaluate models/whisper/mine-1 --manifest manifests/splits/mine/test.jsonl --context speech --beam-size 5",
            "govor evaluate models/whisper/mine-1 --suite hebrew --resume",
            "govor evaluate whisper-1 --server http://localhost:8000 --manifest manifests/splits/mine/test.jsonl --max-samples 100",
            "govor evaluate models/whisper/mine-1 --hallucination",
            "govor evaluate models/whisper/mine-1 --manifest manifests/splits/mine/test.jsonl --timestamps",
        )
    )(evaluate)
    app.command(epilog=examples("govor rescore manifests/evals/mine-1__mine-test__speech.json"))(rescore)


def evaluate(
    given: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run, package, checkpoint, ggml file, Hub id, or a server's model.")
    ],
    manifest: Annotated[
        Path | None, typer.Option("--manifest", help="Clips with transcripts.", show_default=False)
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="Known sets: hebrew, bcs, bosnian, croatian, serbian, malagasy, or your YAML.", show_default=False
        ),
    ] = None,
    suite_data: Annotated[
        Path | None,
        typer.Option(help="Folder with SET/*.parquet, where the Hub is not to be asked.", show_default=False),
    ] = None,
    hallucination: Annotated[
        bool, typer.Option("--hallucination", help="What it writes for silence, noise and music.")
    ] = False,
    timestamps: Annotated[
        bool,
        typer.Option("--timestamps", help="How well it times words: splices of the manifest's clips with known gaps."),
    ] = False,
    server: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server (also vLLM) that runs MODEL.", show_default=False)
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests to the server at a time.")] = 8,
    max_samples: Annotated[
        int | None, typer.Option(min=1, help="Only so many clips, the same for every model.", show_default=False)
    ] = None,
    context: Annotated[
        Context,
        typer.Option(help="What the encoder sees: 30 s with padding, the speech alone, or score both."),
    ] = "both",
    beam_size: Annotated[int, typer.Option(min=1, help="1 is greedy.")] = 1,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: Device = "auto",
    hear_training: Annotated[
        bool | None,
        typer.Option(
            help="Compare a suite with the sounds of the training data; default: up to 50 h.", show_default=False
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished scoring.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score a model: WER and CER with 95 % intervals, strict and lenient, by slice; one row per clip kept."""
    from govor.errors import GovorError

    if [manifest is not None, suite is not None, hallucination].count(True) != 1:
        raise GovorError(
            "What to score on was not given, or more than once: give --manifest, --suite or --hallucination."
        )
    if timestamps and manifest is None:
        raise GovorError("--timestamps splices clips of a manifest; give --manifest.")
    for looks_in, option in ((hallucination, "--hallucination"), (timestamps, "--timestamps")):
        if looks_in and server is not None:
            raise GovorError(f"{option} looks into the model, which a server does not allow; give it a model here.")
    contexts: Contexts = ("padded", "speech") if context == "both" else (context,)
    if hallucination:
        from govor.cli.probes import run_hallucination

        refuse_given(given, "--hallucination", *_OF_SUITES, *_OF_SERVERS, "max_samples", "beam_size", "resume")
        run_hallucination(model, contexts, engine, precision, device, overwrite, as_json)
        return
    if suite is not None:
        from govor.cli.suites import run_suite

        if server is not None:
            raise GovorError("A suite is scored with a model here; give the server one of the suite's manifests.")
        refuse_given(given, "--suite", *_OF_SERVERS)
        options = (contexts, beam_size, engine, precision, device, max_samples, overwrite)
        run_suite(model, suite, suite_data, hear_training, options, as_json)
        return
    assert manifest is not None
    refuse_given(given, "--manifest", *_OF_SUITES)
    if timestamps:
        from govor.cli.probes import run_timestamps

        refuse_given(given, "--timestamps", *_OF_SERVERS, "beam_size", "engine", "resume")
        asked = contexts if was_given(given, "context") else None
        run_timestamps(model, manifest, asked, max_samples, precision, device, overwrite, as_json)
        return
    if server is not None:
        refuse_given(given, "--server", "context", "beam_size", "engine", "precision", "device")
        summaries = [run_remote(model, manifest, server, concurrency, max_samples, resume, overwrite)]
    else:
        refuse_given(given, "a model here", *_OF_SERVERS)
        summaries = run_evaluation(
            model, manifest, contexts, beam_size, engine, precision, device, overwrite, max_samples, resume
        )
    console.result("\n".join(map(score_line, summaries)), summaries, as_json)
    for summary in summaries[:1]:
        for kind, rows in summary["slices"].items():
            console.table(f"WER by {kind}", [slice_row(row) for row in rows])
    last = summaries[-1]["file"]
    console.made(", ".join(s["file"] for s in summaries), f"govor compare OTHER_EVAL.json {last}")
    exit_if(tell_failed(summaries))


def tell_failed(summaries: Sequence[dict[str, Any]]) -> bool:
    """Name the clips that count as empty because they could not be read, or got no answer; whether there are any."""
    failed = {item["id"]: item["reason"] for summary in summaries for item in summary.get("failed", [])}
    for name, reason in list(failed.items())[:10]:
        console.note(f"failed  {name}: {reason}")
    if failed:
        console.note(f"{len(failed)} clips could not be scored and count as empty; mend them, then --resume")
    return bool(failed)


def run_evaluation(
    model: str,
    manifest: Path,
    contexts: Contexts,
    beam_size: int = 1,
    engine: EngineName = "torch",
    precision: PrecisionName = "auto",
    device: str = "auto",
    overwrite: bool = False,
    max_samples: int | None = None,
    resume: bool = False,
    set_name: str | None = None,
) -> list[dict[str, Any]]:
    """Score in each context and write the results; returns the summaries with their `file`."""
    from govor.files import refuse_existing
    from govor.measure.evaluate import dataset_name, eval_name
    from govor.measure.scoring import check_clips, clips_to_score, score_here

    clips = clips_to_score(manifest, max_samples)
    check_model(model, engine, device)
    # Only now: these import torch, which takes seconds.
    from govor.device import pick_device, pick_precision, torch_dtype
    from govor.families.opening import open_recogniser, weights_stamp

    chosen = pick_device(device).value
    number_format = pick_precision(precision, chosen)
    opened = open_recogniser(model, torch_dtype(number_format.value), chosen, engine, console.note)
    check_clips(opened.recogniser, clips, manifest, opened.language_token)
    suffix = (f"-beam{beam_size}" if beam_size > 1 else "") + ("-ct2" if engine == "ct2" else "")
    name = opened.name + suffix
    dataset = set_name or dataset_name(manifest)
    dataset += f"-{len(clips)}" if max_samples is not None else ""
    targets = {c: Workspace().evals / eval_name(name, dataset, c) for c in contexts}
    if not resume:
        for target in targets.values():
            refuse_existing(target.with_name(target.name + ".json"), overwrite, "--overwrite to score it again")
    summaries = []
    for context, target in targets.items():
        about = {
            "model": name,
            "source": model,
            "set": dataset,
            "context": context,
            "beam_size": beam_size,
            "engine": engine,
            "precision": "as stored" if engine == "ct2" else number_format.value,
            "weights": weights_stamp(opened.folder),
        }
        held = None if overwrite else _finished(target, manifest, len(clips), about)
        if held is not None:
            console.note(f"{target}.json is there already")
            summaries.append({**held, "file": f"{target}.json"})
            continue
        with console.bar(f"score {name} {context}", len(clips)) as bar:
            summary = score_here(
                opened, clips, manifest, target, about, context, beam_size, resume, overwrite, bar.advance
            )
        summaries.append({**summary, "file": f"{target}.json"})
    return summaries


def _finished(target: Path, manifest: Path, clips: int, about: dict[str, Any]) -> dict[str, Any] | None:
    """The summary of this very scoring, if it is there already; another one in its place is refused."""
    from govor.corpus.manifests import fingerprint
    from govor.errors import GovorError
    from govor.jsons import read_json
    from govor.measure.evaluate import rescore as rescore_file
    from govor.metrics.text import NAME

    file = target.with_name(target.name + ".json")
    if not file.exists():
        return None
    summary = read_json(file)
    if not isinstance(summary, dict):
        raise GovorError(f"{file} is no scoring; delete it, or give --overwrite.")
    same = (
        summary.get("manifest", {}).get("sha256") == fingerprint(manifest)["sha256"] and summary.get("clips") == clips
    )
    same = same and all(summary.get(key) == value for key, value in about.items())
    if not same:
        raise GovorError(f"{file} is of other weights, clips or settings; give --overwrite to score again.")
    if summary.get("failed"):
        return None
    return summary if summary.get("normaliser") == NAME else rescore_file(file)


def run_remote(
    model: str, manifest: Path, url: str, concurrency: int, max_samples: int | None, resume: bool, overwrite: bool
) -> dict[str, Any]:
    """Score a server and write the result; returns the summary with its `file`."""
    import re

    from govor.errors import GovorError, nearest
    from govor.files import refuse_existing
    from govor.measure.evaluate import dataset_name, eval_name
    from govor.measure.remote import Server
    from govor.measure.scoring import clips_to_score, score_server

    clips = clips_to_score(manifest, max_samples)
    server = Server(url, model)
    offered = server.models()
    if offered and model not in offered:
        raise GovorError(f"{server.url} offers no model '{model}'; {nearest(model, offered)}")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.split("/")[-1]).strip("-.") or "server"
    dataset = dataset_name(manifest) + (f"-{len(clips)}" if max_samples is not None else "")
    target = Workspace().evals / eval_name(name, dataset, "server")
    if not resume:
        refuse_existing(target.with_name(target.name + ".json"), overwrite, "--overwrite to score it again")
    about = {"model": name, "source": model, "set": dataset, "context": "server", "server": server.url}
    held = None if overwrite else _finished(target, manifest, len(clips), about)
    if held is not None:
        console.note(f"{target}.json is there already")
        return {**held, "file": f"{target}.json"}
    try:
        with console.bar(f"ask {server.url} for {model}", len(clips)) as bar:
            summary = score_server(
                server,
                clips,
                manifest,
                target,
                about,
                concurrency,
                resume,
                overwrite,
                bar.advance,
            )
    finally:
        server.close()
    return {**summary, "file": f"{target}.json"}


def rescore(
    evals: Annotated[list[Path], typer.Argument(metavar="EVAL…", help="Scorings (.json of evaluate).")],
    as_json: Json = False,
) -> None:
    """Count the texts of a scoring again with today's normalisers; no model is needed."""
    from govor.measure.evaluate import rescore as again

    summaries = [{**again(path), "file": str(path)} for path in evals]
    console.result("\n".join(map(score_line, summaries)), summaries, as_json)
    console.made(", ".join(map(str, evals)))


def score_line(summary: dict[str, Any]) -> str:
    """One scoring on one line."""

    def shown(name: str) -> str:
        value, spread = summary[name], summary[f"{name}_interval"]
        if value is None:
            return f"{name.upper()} n/a"
        return f"{name.upper()} {value:.4f}" + (f" [{spread[0]:.4f}, {spread[1]:.4f}]" if spread else "")

    lenient = summary.get("lenient", {}).get("wer")
    spelled = "" if lenient is None else f"  lenient WER {lenient:.4f}"
    speed = summary.get("real_time_factor")
    extra = "" if speed is None else f", {speed:.2f} x real time"
    if summary.get("latency"):
        latency = summary["latency"]
        extra += f", latency p50 {latency['p50_seconds']:.2f} s, p95 {latency['p95_seconds']:.2f} s"
    about = f"; {summary['about_words']}" if summary.get("about_words") else ""
    return (
        f"{summary['model']} on {summary['set']}, {summary['context']}: {shown('wer')}  {shown('cer')}{spelled}  "
        f"({summary['clips']} clips{extra}; {summary['interval']['note']}{about})"
    )


def slice_row(row: dict[str, Any]) -> dict[str, Any]:
    """A slice as a table shows it."""
    spread = row["wer_interval"]
    return {
        "": row["value"],
        "clips": row["clips"],
        "words": row["words"],
        "WER": "n/a" if row["wer"] is None else f"{row['wer']:.3f}",
        "95 %": "" if spread is None else f"{spread[0]:.3f} – {spread[1]:.3f}",
        "CER": "n/a" if row["cer"] is None else f"{row['cer']:.3f}",
    }
