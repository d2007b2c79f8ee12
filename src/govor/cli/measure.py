"""compare, report: what scores say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from govor.cli import console
from govor.cli.models import Context, Device, Model, Precision, check_model, find_run, open_model
from govor.cli.options import Json, Out, Overwrite, examples
from govor.cli.summary import exit_if
from govor.runs import Workspace


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
    from govor.files import refuse_existing
    from govor.jsons import write_json
    from govor.measure.evaluate import read_eval, refuse_unread
    from govor.measure.headline import add_to_headline
    from govor.metrics.compare import compare as compare_rows
    from govor.runs import check_name

    (a, rows_a), (b, rows_b) = read_eval(eval_a), read_eval(eval_b)
    for path, summary in ((eval_a, a), (eval_b, b)):
        refuse_unread(path, summary)
    name = check_name(run) if run else _run_whose_gain_this_is(a, b)
    if out:
        refuse_existing(out, overwrite)
    result = compare_rows(rows_a, rows_b, str(a["model"]), str(b["model"]))
    target = (
        out or Workspace().evals.parent / "compare" / f"{a['model']}__vs__{b['model']}__{b['set']}__{b['context']}.json"
    )
    write_json(target, result)
    console.result(compare_lines(result), result, as_json)
    if name and a["context"] == b["context"]:
        add_to_headline(name, {b["context"]: (eval_a, eval_b)}, say=console.note)
        console.made(f"{target} and manifests/eval_{name}.json", f"govor report {name}")
    else:
        console.made(target)


def _run_whose_gain_this_is(a: dict[str, Any], b: dict[str, Any]) -> str | None:
    """B's run, where A is the base model that it began from."""
    from govor.jsons import read_json

    for record in Path("models").glob(f"*/{b['model']}/run_manifest.json"):
        if read_json(record)["base_model"] == a.get("source"):
            return str(b["model"])
    return None


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder.")],
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a page with the scores, the learning curve and every clip with audio and word diff."""
    folder = find_run(run)
    path = run_report(folder, out, overwrite)
    console.say(str(path))
    console.made(path, f"govor package {folder}")


def run_report(run: Path, out: Path | None, overwrite: bool) -> Path:
    """Build a run's report."""
    from govor.files import refuse_existing, workspace_path
    from govor.measure.report.build import FILES, build_report

    target = (out or Path("reports") / run.name).resolve()
    refuse_existing(target, overwrite)
    check_replaceable(target, FILES, "a report")
    return Path(workspace_path(build_report(run, target, overwrite)))


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
    from govor.measure.accept import gates_given, judge, keep

    if gates and stage is not None:
        raise GovorError("--stage asks the recipe's gates and --set gives others; give one of them.")
    folder = find_run(run)
    own = gates_given(folder, gates) if gates else None
    verdict = judge(folder, own, stage)
    file = keep(folder.name, verdict)
    lines = [f"{'green' if e['passed'] else 'red  '}  {e['gate']}: {e['reason']}" for e in verdict["gates"]]
    if verdict["stage"]:
        lines.append(f"stage: {verdict['stage']}")
    lines.append(f"accepted: {'true' if verdict['accepted'] else 'false'}")
    console.result("\n".join(lines), verdict, as_json)
    console.made(file, f"govor package {folder}" if verdict["accepted"] else None)
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
    from govor.files import refuse_existing
    from govor.measure.scoring import check_clips, clips_to_score

    clips = clips_to_score(manifest)
    check_model(model, device=device)
    from govor.measure.audit import FILES, run_audit, sentence  # only now: it imports torch

    target = out or Path("reports") / f"audit-{manifest.stem}"
    refuse_existing(target, overwrite)
    check_replaceable(target, FILES, "an audit")
    opened = open_model(model, precision=precision, device=device)
    check_clips(opened.recogniser, clips, manifest, opened.language_token)
    with console.bar("audit", None) as bar:
        result = run_audit(opened, clips, context or opened.context, planted_share, target, overwrite, bar.to)
    console.result(sentence(result), {key: value for key, value in result.items() if key != "rows"}, as_json)
    console.made(f"{target}/index.html and {target}/suspicious.jsonl")
    blind = not result["precision"] or not result["recall"]
    if blind:
        console.note(
            "the planted mismatches were not found, so this model cannot judge these transcripts; try a better one"
        )
    exit_if(blind or result["suspicious"] > max_share * result["clips"])


def check_replaceable(target: Path, files: frozenset[str], what: str) -> None:
    """Refuse to replace a folder that holds other things than `files`."""
    from govor.errors import GovorError

    if target.is_file() or (target.exists() and not {path.name for path in target.iterdir()} <= files):
        raise GovorError(f"{target} holds other things than {what}, so it is not replaced; give another --out.")


def compare_lines(result: dict[str, Any]) -> str:
    """A comparison for people."""
    from govor.metrics.compare import format_p

    lines = []
    for rate in ("wer", "cer"):
        item = result[rate]
        change = "n/a" if item["relative_change"] is None else f"{item['relative_change']:+.1%}"
        numbers = " → ".join("n/a" if item[side] is None else f"{item[side]:.4f}" for side in ("a", "b"))
        lines.append(f"{rate.upper()}  {numbers}  ({change} relative, paired p {format_p(item['p_value'])})")
    lines.append(
        f"clips better {result['better']}, worse {result['worse']}, same {result['same']}; {result['test']['note']}"
    )
    if result["about_words"]:
        lines.append(result["about_words"])
    lines.append(result["verdict"])
    return "\n".join(lines)
