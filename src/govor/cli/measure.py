"""compare, report: what scores say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from govor.cli import console
from govor.cli.models import Context, Device, Model, Precision, check_model
from govor.cli.options import Json, Out, Overwrite, examples, workspace
from govor.cli.summary import exit_if


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command(
        epilog=examples(
            "govor compare manifests/evals/whisper-base__mine-test__padded.json manifests/evals/mine-1__mine-test__padded.json"
        )
    )(compare)
    app.command(epilog=examples("govor report mine-1"))(report)
    app.command(
        epilog=examples(
            "govor accept mine-1",
            "govor accept mine-1 --stage production",
            "govor accept mine-1 --set wer=0.12 --set hallucination_rate=0.05",
        )
    )(accept)
    app.command(
        epilog=examples(
            "govor audit manifests/kept.jsonl --model openai/whisper-base",
            "govor audit manifests/kept.jsonl --model models/whisper/mine-1 --max-share 0.02",
        )
    )(audit)


def compare(
    eval_a: Annotated[Path, typer.Argument(metavar="EVAL_A", help="The older scoring (.json of evaluate).")],
    eval_b: Annotated[Path, typer.Argument(metavar="EVAL_B", help="The newer one, of the same clips.")],
    run: Annotated[
        str | None,
        typer.Option(help="The run this is the before and after of; B's model by default.", show_default=False),
    ] = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Is B better than A, by how much, and is it more than chance? A paired bootstrap over the same clips."""
    from govor.measure.compare import compare as compare_scorings
    from govor.measure.lines import compare_lines

    comparison = compare_scorings(workspace(), eval_a, eval_b, run, out, overwrite, console)
    console.result(compare_lines(comparison.result, comparison.task), comparison.result, as_json)
    file = workspace().as_given(comparison.file)
    if comparison.run is not None:
        headline = workspace().as_given(workspace().headline(comparison.run))
        console.made(f"{file} and {headline}", f"govor report {comparison.run}")
    else:
        console.made(file)


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder.")],
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a page with the scores, the learning curve and every clip with audio and word diff."""
    from govor.measure.report.build import report as build

    trained = workspace().find_run(run)
    page = workspace().relative(build(trained, out, overwrite))
    console.say(page)
    console.made(page, f"govor package {workspace().as_given(trained.folder)}")


def accept(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder.")],
    gates: Annotated[
        list[str] | None,
        typer.Option("--set", help="A gate in place of the recipe's, such as wer=0.12.", show_default=False),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(help="A stage that the recipe names; its gates are judged.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a run by the gates of its recipe; exit 1 when one is red. Nothing unmeasured passes."""
    from govor.errors import GovorError
    from govor.measure.accept import accept as judge
    from govor.measure.accept import gates_given
    from govor.measure.lines import verdict_lines

    if gates and stage is not None:
        raise GovorError("--stage asks the recipe's gates and --set gives others; give one of them.")
    trained = workspace().find_run(run)
    own = gates_given(trained, gates) if gates else None
    verdict, file = judge(trained, own, stage)
    console.result(verdict_lines(verdict), verdict, as_json)
    then = f"govor package {workspace().as_given(trained.folder)}" if verdict["accepted"] else None
    console.made(workspace().as_given(file), then)
    exit_if(not verdict["accepted"])


def audit(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Clips with transcripts.")],
    model: Model,
    planted_share: Annotated[
        float, typer.Option(min=0.01, max=0.5, help="Share of clips that get another's transcript, to calibrate.")
    ] = 0.05,
    max_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Exit 1 when more than this share of the clips is suspicious.")
    ] = 0.05,
    context: Context = None,
    out: Out = None,
    precision: Precision = "auto",
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Does each transcript match its audio? Calibrated by planting wrong ones; the worst clips are listed to listen to."""
    from govor.measure.scoring import ClipSet

    clips = ClipSet.read(workspace(), manifest)
    check_model(model, device=device)
    from govor.measure.audit import AuditOptions, sentence  # only now: it imports torch
    from govor.measure.audit import audit as judge
    from govor.measure.evaluate import EvalOptions

    options = AuditOptions(planted_share, context, out, overwrite)
    filed = judge(workspace(), clips, model, options, EvalOptions(precision=precision, device=device), console)
    result, folder = filed.result, workspace().as_given(filed.file)
    console.result(sentence(result), result, as_json)
    console.made(f"{folder}/index.html and {folder}/suspicious.jsonl")
    blind = not result["precision"] or not result["recall"]
    if blind:
        console.note(
            "the planted mismatches were not found, so this model cannot judge these transcripts; try a better one"
        )
    exit_if(blind or result["suspicious"] > max_share * result["clips"])
