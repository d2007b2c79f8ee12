"""quickstart: the whole main job once, on real speech or one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from govor.cli import console
from govor.cli.finetune import saying_how_to_go_on
from govor.cli.models import check_model
from govor.cli.options import Language, License, examples, workspace

if TYPE_CHECKING:
    from govor.quickstart import Quickstarted
    from govor.runs import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "govor quickstart",
            "govor quickstart --audio recordings/ --language he",
            "govor quickstart --fast-dev-run",
        )
    )(quickstart)


def quickstart(
    audio: Annotated[
        Path | None,
        typer.Option("--audio", help="A folder of x.wav + x.txt; real Czech speech by default.", show_default=False),
    ] = None,
    language: Language = None,
    license: License = None,
    base_model: Annotated[str | None, typer.Option(help="Another model than the recipe's.", show_default=False)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override a setting of the recipe.", show_default=False),
    ] = None,
    fast_dev_run: Annotated[bool, typer.Option(help="A handful of clips and two steps, in a minute or two.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Train anew although a run of that name exists.")] = False,
) -> None:
    """Do the main job end to end: a real Whisper gets better at real speech, with proof.

    manifest → validate → normalise → split → score → fine-tune → score → compare → package → transcribe. What an
    earlier call finished is reused.
    """
    from govor.quickstart import Wish
    from govor.quickstart import quickstart as run

    wish = Wish(audio, language, license, base_model, tuple(set_ or ()), fast_dev_run, overwrite)
    wish.recipe("later")  # a slip in the settings is told before torch is imported
    check_model(base_model or "openai/whisper-base")
    with saying_how_to_go_on():
        done = run(workspace(), wish, console)
    console.say()
    _table(done.headline)
    _examples(done.headline)
    console.say(f"transcribed by the package  {done.spoken[0]}: {done.spoken[1]}")
    _next(done)


def _table(headline: Json) -> None:
    from rich.markup import escape
    from rich.table import Table

    from govor.metrics.compare import format_p

    table = Table(title=f"{escape(headline['run'])}: word error rate on unseen clips, with 95 % intervals")
    for column in ("audio context", "before", "after", "change", "paired p", "CER before", "CER after"):
        table.add_column(column, justify="left" if column == "audio context" else "right")
    for context, item in headline["contexts"].items():
        wer = item["comparison"]["wer"]
        change = "n/a" if wer["relative_change"] is None else f"{wer['relative_change']:+.1%}"
        sides = [_rate(item[side], "wer") for side in ("before", "after")]
        letters = ["n/a" if item[side]["cer"] is None else f"{item[side]['cer']:.3f}" for side in ("before", "after")]
        table.add_row(context, *sides, change, format_p(wer["p_value"]), *letters)
    console.out.print(table)
    first = next(iter(headline["contexts"].values()))
    console.say(f"{first['after']['clips']} clips; {first['after']['interval']['note']}")
    if first["after"].get("about_words"):
        console.say(first["after"]["about_words"])


def _rate(summary: Json, name: str) -> str:
    value, spread = summary[name], summary[f"{name}_interval"]
    if value is None:
        return "n/a"
    return f"{value:.3f}" + (f" [{spread[0]:.3f}, {spread[1]:.3f}]" if spread else "")


def _examples(headline: Json) -> None:
    """Three clips from the quarters of the list, not picked for looks."""
    from govor.measure.scoring import read_eval
    from govor.metrics.recognition import by_id

    files = headline["contexts"]["padded"]["files"]
    before, after = (by_id(read_eval(workspace().path(files[side]))[1], side) for side in ("before", "after"))
    names = sorted(after)
    console.say("\nThree clips, taken evenly from the test set (padded):")
    for share in (1, 2, 3):
        name = names[len(names) * share // 4]
        for label, text in (
            ("reference", after[name]["reference"]),
            ("before", before[name]["hypothesis"]),
            ("after", after[name]["hypothesis"]),
        ):
            console.say(f"  {label:<10}{text}")
        console.say()


def _next(done: Quickstarted) -> None:
    recipe, named, test = done.recipe, workspace().as_given, workspace().as_given(done.test)
    longer, split = f"{recipe.name}-longer", ["--set", f"data.split={recipe.data.split}"]
    lines = [
        f"\nreport   {workspace().relative(done.page)}   (open it in a browser)",
        f"model    {named(done.run.folder)}",
        f"time     {done.seconds / 60:.1f} min",
        "\nNext:",
        f"  {console.command('govor', 'transcribe', named(done.run.folder), 'YOUR.wav')}",
        f"  {console.command('govor', 'train', 'quickstart', '--set', f'name={longer}', *split, '--set', 'finetune.epochs=6')}",
        f"  {console.command('govor', 'evaluate', f'models/{recipe.family}/{longer}', '--manifest', test)}",
        "  govor quickstart --audio YOUR_FOLDER --language xx",
    ]
    console.say("\n".join(lines))
