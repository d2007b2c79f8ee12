"""train."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from govor.cli import console
from govor.cli.options import Device, Json, Overwrite, examples

if TYPE_CHECKING:
    from govor.finetune.loop import StepRecord
    from govor.finetune.train import Finished
    from govor.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    app.command(
        epilog=examples(
            "govor train whisper --set data.split=manifests/splits/mine --fast-dev-run",
            "govor train whisper --set data.split=manifests/splits/mine --set name=mine-1 --set finetune.lr=2e-5",
            "govor train my-recipe.yaml --resume",
            "torchrun --nproc-per-node 8 -m govor train my-recipe.yaml",
        )
    )(train)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name, or a .yaml file.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override a setting.", show_default=False),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="End after so many steps.", show_default=False)] = None,
    fast_dev_run: Annotated[bool, typer.Option(help="A handful of clips, two steps: does everything work?")] = False,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint, exactly.")] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Fine-tune a model as a recipe says; a checkpoint at every evaluation, exact resume."""
    from govor import recipe as recipes
    from govor.finetune.train import fast_dev_run as shortened

    overrides = [*(set_ or []), *([f"finetune.max_steps={max_steps}"] if max_steps is not None else [])]
    resolved = recipes.load(recipe, overrides)
    if fast_dev_run:
        # Such a run has a name of its own that nobody else uses, so it may be made again and again.
        resolved, overwrite = shortened(resolved), not resume
    finished = run_training(resolved, resume, overwrite, device)
    if int(os.environ.get("RANK", "0")):
        return
    shown = {"run": str(finished.run), **finished.metrics}
    console.result(f"best checkpoint  {finished.best.name}: {_metrics(finished.metrics['metrics'])}", shown, as_json)
    split = resolved.data.split
    console.made(finished.run, f"govor evaluate {finished.run} --manifest {split}/test.jsonl")


def run_training(recipe: Recipe, resume: bool, overwrite: bool, device: str = "auto") -> Finished:
    """Train with progress on the terminal."""
    from govor.errors import GovorError
    from govor.finetune import train as training

    if resume and overwrite:
        raise GovorError("--resume goes on with a run and --overwrite replaces it; give one of the two.")
    with console.bar(f"train {recipe.name}", None) as bar:
        return training.train(recipe, _Progress(bar), resume, overwrite, device)


class _Progress:
    """The run's reporter on a terminal."""

    def __init__(self, bar: console.Bar) -> None:
        self._bar = bar

    def note(self, text: str) -> None:
        self._bar.note(text)

    def step(self, record: StepRecord, total_steps: int) -> None:
        self._bar.to(record.step, total_steps, f"loss {record.loss:.3f}  lr {record.lr:.1e}")

    def evaluated(self, step: int, metrics: dict[str, float | None]) -> None:
        self._bar.note(f"step {step}: {_metrics(metrics)}")


def _metrics(metrics: dict[str, Any]) -> str:
    return "  ".join(f"validation {name} {value:.4f}" for name, value in metrics.items() if value is not None)
