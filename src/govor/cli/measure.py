"""evaluate, compare, report, transcribe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from govor.cli import console
from govor.cli.options import Device, Json, Language, Out, Overwrite, examples

EVALS = Path("manifests") / "evals"
Context = Literal["padded", "speech", "both"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command(
        epilog=examples(
            "govor evaluate openai/whisper-base --manifest manifests/splits/mine/test.jsonl",
            "govor evaluate models/whisper/mine-1 --manifest manifests/splits/mine/test.jsonl --context speech --beam-size 5",
        )
    )(evaluate)
    app.command(
        epilog=examples(
            "govor compare manifests/evals/whisper-base__mine-test__padded.json manifests/evals/mine-1__mine-test__padded.json"
        )
    )(compare)
    app.command(epilog=examples("govor report mine-1"))(report)
    app.command(
        epilog=examples(
            "govor transcribe models/whisper/mine-1 clip.wav",
            "govor transcribe models/whisper/mine-1 *.mp3 --format json",
            "govor transcribe openai/whisper-base long.m4a --language he",
        )
    )(transcribe)


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, package, checkpoint, ggml file or Hub id.")],
    manifest: Annotated[Path, typer.Option("--manifest", help="Clips with transcripts.")],
    context: Annotated[
        Context,
        typer.Option(help="What the encoder sees: 30 s with padding, the speech alone, or score both."),
    ] = "both",
    beam_size: Annotated[int, typer.Option(min=1, help="1 is greedy.")] = 1,
    engine: Annotated[Literal["torch", "ct2"], typer.Option(help="ct2: the CTranslate2 files of a package.")] = "torch",
    precision: Annotated[Precision, typer.Option(help="auto: bf16 where it measures faster here.")] = "auto",
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score a model: WER and CER with 95 % intervals, one row per clip kept."""
    contexts: tuple[Literal["padded", "speech"], ...] = ("padded", "speech") if context == "both" else (context,)
    summaries = run_evaluation(model, manifest, contexts, beam_size, engine, precision, device, overwrite)
    console.result("\n".join(score_line(s) for s in summaries), summaries, as_json)
    last = summaries[-1]["file"]
    console.made(", ".join(s["file"] for s in summaries), f"govor compare OTHER_EVAL.json {last}")


def run_evaluation(
    model: str,
    manifest: Path,
    contexts: tuple[Literal["padded", "speech"], ...],
    beam_size: int = 1,
    engine: Literal["torch", "ct2"] = "torch",
    precision: Precision = "auto",
    device: str = "auto",
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Score in each context and write the results; returns the summaries with their `file`."""
    from govor.audio import split_blob
    from govor.corpus.manifests import read_clips
    from govor.device import pick_device, pick_precision, torch_dtype
    from govor.errors import GovorError
    from govor.families.opening import open_recogniser
    from govor.files import refuse_existing
    from govor.measure.evaluate import dataset_name, eval_name, transcribe_clips, write_eval

    clips = list(read_clips(manifest))
    if not clips:
        raise GovorError(f"{manifest} holds no clips to score.")
    gone = [clip for clip in clips if not split_blob(clip.audio)[0].is_file()]
    if gone:
        raise GovorError(
            f"{manifest}: the audio of {len(gone)} clips was not found (first: '{gone[0].id}' at {gone[0].audio})."
        )
    chosen = pick_device(device).value
    number_format = pick_precision(precision, chosen)
    opened = open_recogniser(model, torch_dtype(number_format.value), chosen, engine, console.note)
    longest = opened.recogniser.longest_seconds
    too_long = [clip.id for clip in clips if clip.duration > longest]
    if too_long:
        raise GovorError(
            f"{len(too_long)} clips of {manifest} are longer than {longest:g} s (first: {too_long[0]}); validate the "
            "manifest first."
        )
    suffix = (f"-beam{beam_size}" if beam_size > 1 else "") + ("-ct2" if engine == "ct2" else "")
    name = opened.name + suffix
    targets = {c: EVALS / eval_name(name, dataset_name(manifest), c) for c in contexts}
    for target in targets.values():
        refuse_existing(target.with_name(target.name + ".json"), overwrite, "--overwrite to score it again")
    summaries = []
    for context, target in targets.items():
        with console.bar(f"score {name} {context}", len(clips)) as bar:
            rows, seconds = transcribe_clips(
                opened.recogniser, clips, context, beam_size, bar.advance, opened.language_token
            )
        audio = sum(row["duration"] for row in rows)
        about = {
            "model": name,
            "source": model,
            "set": dataset_name(manifest),
            "context": context,
            "beam_size": beam_size,
            "engine": engine,
            "precision": "as stored" if engine == "ct2" else number_format.value,
            "seconds": round(seconds, 2),
            "real_time_factor": round(seconds / audio, 4),
        }
        summary = write_eval(target, rows, about, manifest)
        summaries.append({**summary, "file": f"{target}.json"})
    return summaries


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
    from govor.files import refuse_existing, write_json
    from govor.measure.compare import compare as compare_rows
    from govor.measure.evaluate import read_eval
    from govor.measure.headline import add_to_headline
    from govor.runs import check_name

    (a, rows_a), (b, rows_b) = read_eval(eval_a), read_eval(eval_b)
    name = check_name(run) if run else _run_whose_gain_this_is(a, b)
    if out:
        refuse_existing(out, overwrite)
    result = compare_rows(rows_a, rows_b, str(a["model"]), str(b["model"]))
    target = out or EVALS.parent / "compare" / f"{a['model']}__vs__{b['model']}__{b['set']}__{b['context']}.json"
    write_json(target, result)
    console.result(compare_lines(result), result, as_json)
    if name and a["context"] == b["context"]:
        add_to_headline(name, {b["context"]: (eval_a, eval_b)})
        console.made(f"{target} and manifests/eval_{name}.json", f"govor report {name}")
    else:
        console.made(target)


def _run_whose_gain_this_is(a: dict[str, Any], b: dict[str, Any]) -> str | None:
    """B's run, where A is the base model that it began from."""
    from govor.files import read_json

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
    from govor.errors import GovorError
    from govor.files import refuse_existing, workspace_path
    from govor.measure.report.build import build_report

    target = (out or Path("reports") / run.name).resolve()
    refuse_existing(target, overwrite)
    if (
        target.exists()
        and any(target.iterdir())
        and {path.name for path in target.iterdir()} != {"index.html", "audio"}
    ):
        raise GovorError(f"{target} holds other things than a report, so it is not replaced; give another --out.")
    return Path(workspace_path(build_report(run, target, overwrite)))


def transcribe(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A package, run, ggml file or Hub id.")],
    audio: Annotated[list[Path], typer.Argument(metavar="AUDIO…", help="Recordings of any length.")],
    format_: Annotated[Literal["txt", "json"], typer.Option("--format", help="What to print.")] = "txt",
    language: Language = None,
    context: Annotated[
        Literal["padded", "speech"] | None,
        typer.Option(
            help="speech for models adapted to it, padded for stock ones; chosen by the model's record.",
            show_default=False,
        ),
    ] = None,
    beam_size: Annotated[int, typer.Option(min=1, help="1 is greedy.")] = 1,
    engine: Annotated[Literal["torch", "ct2"], typer.Option(help="ct2: the CTranslate2 files of a package.")] = "torch",
    precision: Annotated[Precision, typer.Option(help="auto: bf16 where it measures faster here.")] = "auto",
    device: Device = "auto",
) -> None:
    """Write down what is said in recordings. Without --language the model's own or a detected one is taken."""
    from govor.device import pick_device, pick_precision, torch_dtype
    from govor.errors import AudioError, GovorError
    from govor.families.opening import open_recogniser
    from govor.files import to_json
    from govor.measure.longform import transcribe_recording

    if len(audio) == 1:
        from govor.audio import probe

        probe(audio[0])  # a file that is no audio is said before a model is loaded
    chosen = pick_device(device).value
    opened = open_recogniser(model, torch_dtype(pick_precision(precision, chosen).value), chosen, engine, console.note)
    failed = []
    for path in audio:
        try:
            pieces = transcribe_recording(
                opened.recogniser, path, language or opened.language, context or opened.context, beam_size
            )
        except AudioError as error:
            failed.append(error)
            console.note(f"failed  {error}")
            continue
        text = " ".join(piece["text"] for piece in pieces if piece["text"])
        if format_ == "json":
            console.say(to_json({"audio": str(path), "model": opened.name, "text": text, "pieces": pieces}))
        else:
            console.say(f"{path}\t{text}" if len(audio) > 1 else text)
    if failed and len(failed) == len(audio):
        raise GovorError(
            str(failed[0])
            if len(failed) == 1
            else f"None of the {len(audio)} files could be read; the reasons stand above."
        )
    if failed:
        raise typer.Exit(1)


def find_run(name: str) -> Path:
    """A run's folder by path or by name below models/."""
    from govor.errors import GovorError, nearest

    if Path(name).is_dir():
        return Path(name)
    folders = [path for path in Path("models").glob("*/*") if path.is_dir() and not path.name.startswith(".")]
    found = [path for path in folders if path.name == name]
    if len(found) > 1:
        raise GovorError(
            f"There are {len(found)} runs called '{name}': {', '.join(map(str, found))}; give one of the paths."
        )
    if found:
        return found[0]
    runs = [path.name for path in folders]
    raise GovorError(f"There is no run '{name}'; {nearest(name, runs)}")


def score_line(summary: dict[str, Any]) -> str:
    """One scoring on one line."""

    def shown(name: str) -> str:
        value, spread = summary[name], summary[f"{name}_interval"]
        if value is None:
            return f"{name.upper()} n/a"
        return f"{name.upper()} {value:.4f}" + (f" [{spread[0]:.4f}, {spread[1]:.4f}]" if spread else "")

    return (
        f"{summary['model']} on {summary['set']}, {summary['context']}: {shown('wer')}  {shown('cer')}  "
        f"({summary['clips']} clips, {summary['real_time_factor']:.2f} x real time; {summary['interval']['note']})"
    )


def compare_lines(result: dict[str, Any]) -> str:
    """A comparison for people."""
    from govor.measure.compare import format_p

    lines = []
    for rate in ("wer", "cer"):
        item = result[rate]
        change = "n/a" if item["relative_change"] is None else f"{item['relative_change']:+.1%}"
        numbers = " → ".join("n/a" if item[side] is None else f"{item[side]:.4f}" for side in ("a", "b"))
        lines.append(f"{rate.upper()}  {numbers}  ({change} relative, paired p {format_p(item['p_value'])})")
    lines.append(
        f"clips better {result['better']}, worse {result['worse']}, same {result['same']}; {result['test']['note']}"
    )
    lines.append(result["verdict"])
    return "\n".join(lines)
