"""evaluate, rescore: a model here or on a server, on one manifest or a suite of known sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from govor.cli import console
from govor.cli.models import Device, Engine, Precision, check_model
from govor.cli.options import Json, Overwrite, examples, refuse_given, workspace
from govor.cli.probes import run_hallucination, run_timestamps
from govor.cli.suites import run_suite
from govor.cli.summary import exit_if

if TYPE_CHECKING:  # a command's help must not wait for them
    from govor.measure.evaluate import EvalOptions
    from govor.measure.scoring import Existing
    from govor.runs import Json as Summary

Context = Literal["padded", "speech", "cached", "both", "all"]
_OF_SUITES, _OF_SERVERS, _OF_SEARCH = ("suite_data", "hear_training"), ("concurrency",), ("beam_size", "plain")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(
        epilog=examples(
            "govor evaluate openai/whisper-base --manifest manifests/splits/mine/test.jsonl",
            "govor evaluate models/whisper/mine-1 --manifest manifests/splits/mine/test.jsonl --context speech --beam-size 5",
            "govor evaluate models/whisper/mine-1 --manifest manifests/splits/mine/test.jsonl --plain",
            "govor evaluate models/whisper/mine-1 --suite hebrew --resume",
            "govor evaluate whisper-1 --server http://localhost:8000 --manifest manifests/splits/mine/test.jsonl --max-samples 100",
            "govor evaluate models/whisper/mine-1 --hallucination",
            "govor evaluate models/whisper/mine-1 --manifest manifests/splits/mine/test.jsonl --timestamps",
        )
    )(evaluate)
    app.command(epilog=examples("govor rescore manifests/evals/mine-1__mine-test__speech.json"))(rescore)


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A run, package, checkpoint, ggml file, Hub id, or a server's model.")
]
Manifest = Annotated[Path | None, typer.Option("--manifest", help="Clips with transcripts.", show_default=False)]
Suite = Annotated[
    str | None,
    typer.Option(
        help="Known sets: hebrew, bcs, bosnian, croatian, serbian, malagasy, or your YAML.", show_default=False
    ),
]
SuiteData = Annotated[
    Path | None,
    typer.Option(help="Folder with SET/*.parquet, where the Hub is not to be asked.", show_default=False),
]
Hallucination = Annotated[bool, typer.Option("--hallucination", help="What it writes for silence, noise and music.")]
Timestamps = Annotated[
    bool,
    typer.Option("--timestamps", help="How well it times words: splices of the manifest's clips with known gaps."),
]
Address = Annotated[
    str | None, typer.Option(help="An OpenAI-compatible server (also vLLM) that runs MODEL.", show_default=False)
]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Requests to the server at a time.")]
MaxSamples = Annotated[
    int | None, typer.Option(min=1, help="Only so many clips, the same for every model.", show_default=False)
]
Contexts = Annotated[
    Context | None,
    typer.Option(
        help="What the encoder sees: padded to 30 s, the speech alone, the speech before cached silence; both: the first two. "
        "By default both, and the model's own.",
        show_default=False,
    ),
]
BeamSize = Annotated[int, typer.Option(min=1, help="1 is greedy.")]
Plain = Annotated[
    bool, typer.Option("--plain", help="The bare search: what loops or is unsure is not drawn again, as engines do.")
]
HearTraining = Annotated[
    bool | None,
    typer.Option(help="Compare a suite with the sounds of the training data; default: up to 50 h.", show_default=False),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an unfinished scoring.")]


def evaluate(
    given: typer.Context,
    model: Model,
    manifest: Manifest = None,
    suite: Suite = None,
    suite_data: SuiteData = None,
    hallucination: Hallucination = False,
    timestamps: Timestamps = False,
    server: Address = None,
    concurrency: Concurrency = 8,
    max_samples: MaxSamples = None,
    context: Contexts = None,
    beam_size: BeamSize = 1,
    plain: Plain = False,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: Device = "auto",
    hear_training: HearTraining = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score a model: WER and CER with 95 % intervals, strict and lenient, by slice; one row per clip kept."""
    from govor.measure.evaluate import EvalOptions
    from govor.measure.suite_scores import SuiteOptions

    _check_modes(manifest, suite, hallucination, timestamps, server)
    existing = _existing(resume, overwrite)
    options = EvalOptions(_contexts(context), beam_size, engine, precision, device, existing, plain)
    if hallucination:
        refuse_given(given, "--hallucination", *_OF_SUITES, *_OF_SERVERS, "max_samples", *_OF_SEARCH, "resume")
        run_hallucination(model, options, as_json)
    elif suite is not None:
        refuse_given(given, "--suite", *_OF_SERVERS)
        run_suite(model, SuiteOptions(suite, suite_data, hear_training, max_samples), options, as_json)
    elif timestamps:
        assert manifest is not None
        refuse_given(given, "--manifest", *_OF_SUITES)
        refuse_given(given, "--timestamps", *_OF_SERVERS, *_OF_SEARCH, "engine", "resume")
        run_timestamps(model, manifest, max_samples, options, as_json)
    else:
        assert manifest is not None
        refuse_given(given, "--manifest", *_OF_SUITES)
        if server is not None:
            refuse_given(given, "--server", "context", *_OF_SEARCH, "engine", "precision", "device")
            summaries = [_run_server(model, server, manifest, max_samples, concurrency, existing)]
        else:
            refuse_given(given, "a model here", *_OF_SERVERS)
            summaries = _run_here(model, manifest, max_samples, options)
        _tell(summaries, as_json)


def _check_modes(
    manifest: Path | None, suite: str | None, hallucination: bool, timestamps: bool, server: str | None
) -> None:
    """Refuse what cannot be asked together."""
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
    if suite is not None and server is not None:
        raise GovorError("A suite is scored with a model here; give the server one of the suite's manifests.")


def _contexts(context: Context | None) -> tuple[Literal["padded", "speech", "cached"], ...] | None:
    """Those asked for; None where none was."""
    if context == "both":
        return ("padded", "speech")
    if context == "all":
        return ("padded", "speech", "cached")
    return None if context is None else (context,)


def _existing(resume: bool, overwrite: bool) -> Existing:
    return "overwrite" if overwrite else "resume" if resume else "refuse"


def _run_here(model: str, manifest: Path, max_samples: int | None, options: EvalOptions) -> list[Summary]:
    from govor.measure.evaluate import evaluate as score
    from govor.measure.scoring import ClipSet

    clips = ClipSet.read(workspace(), manifest, max_samples)
    check_model(model, options.engine, options.device)
    return [filed.result for filed in score(workspace(), model, clips, options, console)]


def _run_server(
    model: str, url: str, manifest: Path, max_samples: int | None, concurrency: int, existing: Existing
) -> Summary:
    from govor.measure.evaluate import evaluate_server
    from govor.measure.remote import Server
    from govor.measure.scoring import ClipSet

    clips = ClipSet.read(workspace(), manifest, max_samples)
    server = Server(url, model)
    try:
        return evaluate_server(workspace(), server, clips, concurrency, existing, console).result
    finally:
        server.close()


def _tell(summaries: Sequence[Summary], as_json: bool) -> None:
    """Print scorings; exit 1 where clips could not be scored."""
    from govor.measure.lines import failed_lines, score_lines, slice_tables

    console.result("\n".join(map(score_lines, summaries)), summaries, as_json)
    for title, rows in slice_tables(summaries[0]):
        console.table(title, rows)
    last = summaries[-1]["file"]
    console.made(", ".join(s["file"] for s in summaries), f"govor compare OTHER_EVAL.json {last}")
    failed = failed_lines(summaries)
    for line in failed:
        console.note(line)
    exit_if(bool(failed))


def rescore(
    evals: Annotated[list[Path], typer.Argument(metavar="EVAL…", help="Scorings (.json of evaluate).")],
    as_json: Json = False,
) -> None:
    """Count the texts of a scoring again with today's normalisers; no model is needed."""
    from govor.measure.lines import score_lines
    from govor.measure.scoring import rescore as again

    summaries = [{**again(path), "file": workspace().as_given(path)} for path in evals]
    console.result("\n".join(map(score_lines, summaries)), summaries, as_json)
    console.made(", ".join(summary["file"] for summary in summaries))
