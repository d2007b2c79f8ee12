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
from govor.errors import GovorError

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


def test_recipes_have_their_story_at_the_head() -> None:
    for name, path in recipes.shipped().items():
        head = path.read_text(encoding="utf-8")
        assert head.startswith("# ") and "# Smoke: " in head and "# Full:" in head, name


def test_overrides_are_typed_and_the_resolved_recipe_runs_again(tmp_path: Path) -> None:
    first = recipes.load("whisper", ["finetune.lr=2e-5", "finetune.max_steps=7", "examples.context=padded", "name=x"])
    assert first.finetune.lr == 2e-5 and first.finetune.max_steps == 7
    file = tmp_path / "again.yaml"
    file.write_text(first.to_yaml(), encoding="utf-8")
    assert recipes.load(str(file)) == first


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: whisper\nname: a\nfinetune: {lr: 1.0e-4}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nname: b\nfinetune: {epochs: 1}\n")
    found = recipes.load(str(tmp_path / "b.yaml"))
    assert (found.name, found.finetune.lr, found.finetune.epochs) == ("b", 1e-4, 1)
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    with pytest.raises(GovorError, match="circle"):
        recipes.load(str(tmp_path / "b.yaml"))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("finetune.learning_rate=1", "unknown setting 'finetune.learning_rate'"),
        ("finetune.warmup_step=1", "did you mean 'warmup_steps'"),
        ("finetun.lr=1", "did you mean 'finetune'"),
        ("finetune.lr=fast", "finetune.lr: "),
        ("examples.full_length_share=2", "less than or equal to 1"),
        ("name=../x", "a name of letters"),
        ("lr", "NAME=VALUE was wanted"),
    ],
)
def test_a_bad_setting_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(GovorError, match=sentence):
        recipes.load("whisper", [override])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["examples.context=padded", "examples.full_length_share=0.2"],
            "context is 'padded'.*full_length_share is 0.2",
        ),
        (["evaluation.decode_clips=0"], "metric is 'wer' and decode_clips is 0"),
        (
            ["finetune.max_steps=5", "finetune.warmup_steps=9"],
            "warmup_steps is 9 and finetune.max_steps is 5",
        ),
    ],
)
def test_contradictions_are_refused_with_both_values(overrides: list[str], sentence: str) -> None:
    with pytest.raises(GovorError, match=sentence):
        recipes.load("whisper", overrides)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(GovorError, match="did you mean 'quickstart'"):
        recipes.load("quickstrat")
