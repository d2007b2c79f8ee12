"""Rules that matter: data flows one way, `--help` is light, recipes and commands change only on purpose."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from govor import recipe as recipes

SOURCE = Path(__file__).parents[1] / "src" / "govor"
GOLDEN = Path(__file__).parent / "golden"
STAGES = [
    "corpus",
    "examples",
    "metrics",
    "families",
    "recipe",
    "timing",
    "measure",
    "finetune",
    "package",
    "redraft",
    "serve",
]
ON_TOP = {"jobs", "plan", "api", "quickstart", "cli", "__main__", "__init__"}  # __init__ names what api holds


def imports(file: Path) -> set[str]:
    """The first part below `govor` of everything a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module] if node.module != "govor" else [f"govor.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("govor.")}
    return found


def test_a_stage_imports_only_the_stages_before_it() -> None:
    for index, stage in enumerate(STAGES):
        for file in [*(SOURCE / stage).rglob("*.py"), *SOURCE.glob(f"{stage}.py")]:
            later = imports(file) & ({*STAGES[index + 1 :]} | ON_TOP)
            assert not later, f"{file.relative_to(SOURCE)} imports {later}, which come after {stage}"


def test_the_single_files_serve_all_and_import_no_stage() -> None:
    for file in SOURCE.glob("*.py"):
        if file.stem not in {*STAGES, *ON_TOP}:
            assert not imports(file) & {*STAGES, *ON_TOP}, file.name


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, govor.cli; print([m for m in ('torch', 'transformers', 'numpy', 'jiwer', 'pydantic', 'soundfile') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def check_golden(name: str, found: str) -> None:
    """Compare with the golden file; delete it to write it anew, and read the difference in review."""
    file = GOLDEN / name
    if not file.exists():
        file.write_text(found, encoding="utf-8")
    assert found == file.read_text(encoding="utf-8"), (
        f"{name} changed; if that is meant, delete the golden file and run again"
    )


def test_the_command_tree_changes_only_on_purpose() -> None:
    from govor.cli import app

    def commands(group: Any, before: str = "") -> dict[str, Any]:
        """Every command by its whole name, those of groups as well."""
        found: dict[str, Any] = {}
        for name, command in group.commands.items():
            whole = f"{before}{name}"
            found |= commands(command, f"{whole} ") if hasattr(command, "commands") else {whole: command}
        return found

    tree = {
        name: {
            "arguments": [p.name for p in command.params if p.param_type_name == "argument"],
            "options": sorted(option for p in command.params if p.param_type_name == "option" for option in p.opts),
        }
        for name, command in sorted(commands(typer.main.get_command(app)).items())
    }
    check_golden("commands.json", json.dumps(tree, indent=1) + "\n")


@pytest.mark.parametrize("name", recipes.shipped())
def test_a_shipped_recipe_changes_only_on_purpose(name: str) -> None:
    check_golden(f"recipe-{name}.yaml", recipes.load(name).to_yaml())
