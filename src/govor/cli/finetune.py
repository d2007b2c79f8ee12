"""examples, train, average, track."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from govor.cli import console
from govor.cli.models import Device, check_manifest, check_model
from govor.cli.options import Json, Out, Overwrite, examples, workspace
from govor.cli.summary import exit_if

if TYPE_CHECKING:
    from govor.finetune.inspect import Look
    from govor.finetune.repeat import Repeated
    from govor.finetune.request import Resume
    from govor.finetune.train import Finished


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command(
        name="examples",
        epilog=examples(
            "govor examples manifests/splits/mine/train.jsonl --recipe whisper --show 5",
            "govor examples manifests/mine.jsonl --recipe my-recipe.yaml --set examples.timestamps_share=0.4",
        ),
    )(show_examples)
    app.command(
        epilog=examples(
            "govor train whisper --set data.split=manifests/splits/mine --fast-dev-run",
            "govor train whisper --set data.split=manifests/splits/mine --set name=mine-1 --set finetune.lr=2e-5",
            "govor train my-recipe.yaml --resume",
            "govor train models/whisper/mine-1/run_manifest.json",
            "torchrun --nproc-per-node 8 -m govor train my-recipe.yaml",
        )
    )(train)
    app.command(epilog=examples("govor average mine-1", "govor average models/whisper/mine-1 --count 5"))(average)
    app.command(
        epilog=examples(
            "govor track my-recipe.yaml",
            "govor track whisper --to wandb,tensorboard --project hebrew --name mine-1 --out mine-1.yaml",
        )
    )(track)


Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Override a setting.", show_default=False),
]


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN_MANIFEST",
            help="A shipped recipe's name, a .yaml file, or a run_manifest.json to repeat.",
        ),
    ],
    set_: Set = None,
    max_steps: Annotated[int | None, typer.Option(help="End after so many steps.", show_default=False)] = None,
    fast_dev_run: Annotated[bool, typer.Option(help="A handful of clips, two steps: does everything work?")] = False,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint, exactly.")] = False,
    resume_changed: Annotated[
        bool, typer.Option("--resume-changed", help="Go on with other settings or data, and note that in the record.")
    ] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Fine-tune a model as a recipe says; a checkpoint at every evaluation, exact resume."""
    from govor.finetune.request import ask

    overrides = [*(set_ or []), *([f"finetune.max_steps={max_steps}"] if max_steps is not None else [])]
    going_on: Resume = "changed" if resume_changed else resume
    request = ask(workspace(), recipe, overrides, going_on, overwrite, device, fast_dev_run)
    # Only now: these import torch, which takes seconds.
    from govor.finetune.repeat import compare_losses
    from govor.finetune.reporting import shown_in
    from govor.finetune.train import train_as_asked
    from govor.runs import Run

    with saying_how_to_go_on(), shown_in(console, f"train {request.recipe.name}") as shown:
        finished = train_as_asked(workspace(), request, shown)
    if int(os.environ.get("RANK", "0")):
        return
    before = None if request.record is None else Run(request.record.parent, workspace())
    _show_finished(finished, None if before is None else compare_losses(before, finished.run), as_json)
    split = next(iter(request.recipe.data.by_name().values())).split
    test = f"{split}/test.jsonl"
    console.made(finished.run.folder, console.command("govor", "evaluate", finished.run.folder, "--manifest", test))
    for line in finished.warnings():
        console.note(line)
    exit_if(bool(finished.unreadable))


@contextmanager
def saying_how_to_go_on() -> Iterator[None]:
    """Where a signal ends training, say with which command it goes on."""
    from govor.finetune.stopping import Interrupted

    try:
        yield
    except Interrupted as stop:
        if int(os.environ.get("RANK", "0")):
            raise typer.Exit(stop.exit_code) from None
        train = "train" in sys.argv and "--resume-changed" not in sys.argv
        on = console.again(["--resume"] if train and stop.resumable else [], ["--overwrite"] if stop.resumable else [])
        raise stop.with_remedy(f"go on with: {on}" if stop.resumable else f"begin again with: {on}") from None


def _show_finished(finished: Finished, repeated: Repeated | None, as_json: bool) -> None:
    from govor.finetune.reporting import metrics_line

    if repeated is not None:
        console.note(repeated.sentence)
    shown = {
        "run": str(finished.run.folder),
        **finished.metrics,
        **({} if repeated is None else {"repeats": asdict(repeated)}),
    }
    console.result(
        f"best checkpoint  {finished.best.name}: {metrics_line(finished.metrics['metrics'])}", shown, as_json
    )


def show_examples(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Clips to make examples of.")],
    recipe: Annotated[str, typer.Option("--recipe", help="A shipped recipe's name, or a .yaml file.")] = "whisper",
    show: Annotated[int, typer.Option(min=1, max=1000, help="How many of the first draws.")] = 5,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Print the examples that training would see: what is given (dim), what is taught (green), and the shares."""
    from govor.finetune.request import load_recipe

    # The manifest stands in for the data.
    resolved = load_recipe(workspace(), recipe, set_ or [])
    check_manifest(manifest)
    check_model(resolved.base_model, languages=[resolved.examples.language])
    from govor.finetune.inspect import look  # only now: it imports torch

    drawn = look(workspace(), resolved, manifest, show, console)
    if as_json:
        console.result("", {"examples": [asdict(item) for item in drawn.examples], "shares": drawn.shares}, True)
    else:
        _show_examples(drawn)


def _show_examples(look: Look) -> None:
    for example in look.examples:
        about = f"{example.seconds:g} s in a context of {example.context_seconds:g} s"
        heading = f"[bold]{escape(example.clip)}[/]  draw {example.draw}, {about}{_with(example.features)}"
        console.out.print(heading, emoji=False)
        for name, taught in (("given", False), ("taught", True)):
            pieces = "".join(_coloured(*piece) for piece in example.pieces if piece[2] is taught)
            console.out.print(f"[bold]{name:<7}[/]{pieces}", emoji=False)
        console.out.print()
    console.out.print("‹n› counts the ids of a piece; what is given is not in the loss\n")
    console.table("shares of the examples of an epoch", look.shares, console.out)


def average(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run's name or folder.")],
    count: Annotated[int, typer.Option(min=2, max=20, help="How many of the best checkpoints by loss.")] = 3,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Average a run's best checkpoints (weights by 1 / loss) and keep the mean where it scores better than the best one."""
    chosen = workspace().find_run(run)
    chosen.check_finished()
    from govor.finetune.average import average_run  # only now: it imports torch
    from govor.finetune.reporting import shown_in

    with shown_in(console, f"average {chosen.name}") as shown:
        result = average_run(chosen, count, device, shown)
    console.result(f"ships  {result['shipped']}", result, as_json)
    console.made(chosen.folder / "average.json", console.command("govor", "package", chosen.folder))


def track(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe whose runs shall be tracked.")],
    to: Annotated[
        str | None, typer.Option("--to", help="wandb, tensorboard, trackio; several with commas.", show_default=False)
    ] = None,
    project: Annotated[str | None, typer.Option(help="The project's name there.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="The run's name.", show_default=False)] = None,
    out: Out = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a recipe whose runs are tracked; on a terminal what is not given is asked for. No key is asked or kept."""
    from govor.files import refuse_existing
    from govor.finetune.request import load_recipe
    from govor.finetune.track import login_hint, write_tracked
    from govor.runs import check_name

    base = load_recipe(workspace(), recipe)
    chosen = _asked("to", "trackers (wandb, tensorboard, trackio)", to, "tensorboard").replace(" ", "").split(",")
    where = _asked("project", "project", project, base.tracking.project)
    called = _asked("name", "run name", name, base.name)
    target = out or workspace().path(f"{check_name(called)}.yaml")
    refuse_existing(target, overwrite)
    more = write_tracked(workspace(), recipe, target, chosen, where, called)
    for hint in login_hint(chosen):
        console.note(hint)
    console.made(target, console.command("govor", "train", target, *more))


def _asked(option: str, question: str, given: str | None, default: str) -> str:
    """What was given, or what somebody at the terminal answers."""
    from govor.errors import GovorError

    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise GovorError(
            f"--{option} is missing, and nobody can be asked without a terminal; give --{option} {default}."
        )
    return str(typer.prompt(question, default=default, err=True))


def _with(features: tuple[str, ...]) -> str:
    return f", {', '.join(features)}" if features else ""


def _coloured(text: str, ids: int, taught: bool) -> str:
    counted = f"[cyan]‹{ids}›[/]" if ids > 1 else ""
    return f"[{'green' if taught else 'dim'}]{escape(text)}[/]{counted}"
