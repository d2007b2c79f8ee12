"""recipe show."""

from __future__ import annotations

from typing import Annotated

import typer

from govor.cli import console
from govor.cli.options import App, Json, examples, workspace


def register(app: typer.Typer) -> None:
    """Add this stage's commands."""
    group = App(help="Look at recipes.", no_args_is_help=True)
    group.command(
        epilog=examples(
            "govor recipe show quickstart",
            "govor recipe show my-recipe.yaml --set finetune.lr=1e-5 --set examples.context=padded",
        )
    )(show)
    app.add_typer(group, name="recipe")


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe's name, or a .yaml file.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override a setting.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a recipe resolved: each setting with its value, and whether it is the default, inherited, or overridden."""
    from govor.jsons import to_json
    from govor.recipe import explain

    settings = explain(name, set_ or (), workspace())
    values = {one.name: one.value if isinstance(one.value, str) else to_json(one.value) for one in settings}
    names, widest = (max(map(len, column)) for column in (values.keys(), values.values()))
    widest = min(widest, 40)
    lines = [f"{one.name:<{names}}  {values[one.name]:<{widest}}  {one.origin}" for one in settings]
    explained = {one.name: {"value": one.value, "origin": one.origin} for one in settings}
    console.result("\n".join(lines), explained, as_json)
