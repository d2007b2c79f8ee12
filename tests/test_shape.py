"""The shape of the house, read from its syntax trees; `python tests/test_shape.py [FOLDER]` prints the figures of any state."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "govor"
MOST_LINES, MOST_LINES_OF_A_COMMAND, MOST_PARAMETERS, MOST_ANY = 60, 30, 7, 250
TYPED = ("families/", "runs.py")
# A row of JSON is a dict of anything, which is said once.
ALLOWED_ANY = {"runs.py": 1}
RECORDS = re.compile(
    r"(?<![\w`])(run_manifest\.json|best\.json|package\.json|state\.json|eval_\{)"
    r"|from govor\.runs import .*\b(RECORD|PACKAGE|BEST|STATE)\b"
)
FOLDERS = re.compile(r"""Path\(["'](manifests|models|data|reports|outputs|logs|uploads|configs)\b""")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def trees(source: Path) -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(source.rglob("*.py")):
        yield file.relative_to(source).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def functions(source: Path) -> Iterator[tuple[str, Function]]:
    for name, tree in trees(source):
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{name}:{node.lineno} {node.name}", node


def long_functions(source: Path) -> dict[str, int]:
    """Functions over 60 lines, signature included."""
    lines = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions(source)}
    return {name: count for name, count in lines.items() if count > MOST_LINES}


def long_commands(source: Path) -> dict[str, int]:
    """Functions of the command line whose body, without its docstring, is over 30 lines."""
    found = {}
    for name, node in functions(source):
        body = node.body[1:] if ast.get_docstring(node) else node.body
        if name.startswith("cli/") and body:
            lines = (node.end_lineno or 0) - body[0].lineno + 1
            if lines > MOST_LINES_OF_A_COMMAND:
                found[name] = lines
    return found


def wide_signatures(source: Path) -> dict[str, int]:
    """Functions of over 7 parameters; commands have one for each option."""
    found = {}
    for name, node in functions(source):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        own = [argument for argument in arguments if argument.arg not in ("self", "cls")]
        command = any("typer" in ast.unparse(a.annotation) for a in own if a.annotation) or "JSON" in ast.unparse(node)
        if len(own) > MOST_PARAMETERS and not (name.startswith("cli/") and command):
            found[name] = len(own)
    return found


def counted_any(source: Path) -> Counter[str]:
    """How often each file says `Any`, its import apart."""
    counts: Counter[str] = Counter()
    for name, tree in trees(source):
        counts[name] += sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))
    return +counts


def imports(source: Path) -> dict[str, set[str]]:
    """Which module of govor imports which, where it needs it to run, wherever in the file."""
    modules = {
        "govor" + "".join(f".{part}" for part in Path(name).with_suffix("").parts if part != "__init__"): tree
        for name, tree in trees(source)
    }
    graph: dict[str, set[str]] = {}
    for module, tree in modules.items():
        typing_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        graph[module] = set()
        for node in ast.walk(tree):
            if id(node) in typing_only or not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                base = node.module or ""
                names = [base, *(f"{base}.{name}" for name in names)]
                if any(f"{base}.{alias.name}" in modules for alias in node.names):
                    names = [name for name in names[1:] if name in modules] or [base]
            graph[module] |= {name for name in names if name in modules and name != module}
    return graph


def circles(source: Path) -> list[list[str]]:
    """Modules that import each other, in whatever number of steps."""
    graph = imports(source)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = list(graph[start])
        while left:
            module = left.pop()
            if module not in seen:
                seen.add(module)
                left += graph[module]
        return seen

    reach = {module: reached(module) for module in graph}
    found = {frozenset(other for other in reach[one] if one in reach[other]) for one in graph if one in reach[one]}
    return [sorted(circle) for circle in found]


def lines_with(source: Path, pattern: re.Pattern[str], but: tuple[str, ...]) -> list[str]:
    """Lines of code, comments and help texts apart, in which something stands."""
    found = []
    for name, tree in trees(source):
        if name.startswith(but):
            continue
        said = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, Function | ast.ClassDef | ast.Module) and ast.get_docstring(node)
            if isinstance(node.body[0], ast.Expr)
        }
        code = ast.unparse(_Without(said).visit(tree))
        found += [f"{name}: {line.strip()[:100]}" for line in code.splitlines() if pattern.search(line)]
    return found


class _Without(ast.NodeTransformer):
    """Leaves out docstrings, and what is only said: messages, help and examples are sentences."""

    def __init__(self, said: set[ast.expr]) -> None:
        self.said = said

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if node.value in self.said else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        sentence = isinstance(node.value, str) and " " in node.value
        return ast.Constant("") if sentence else node


def family_names() -> re.Pattern[str]:
    from govor.families.registry import family_names as names

    return re.compile(rf"""families\.({"|".join(names())})\b|["']({"|".join(names())})["']""")


def test_functions_are_short_and_take_little() -> None:
    assert not long_functions(SOURCE)
    assert not long_commands(SOURCE)
    assert not wide_signatures(SOURCE)


def test_types_are_known() -> None:
    counts = counted_any(SOURCE)
    assert sum(counts.values()) < MOST_ANY, counts.most_common(10)
    assert {name: count for name, count in counts.items() if name.startswith(TYPED)} == ALLOWED_ANY


def test_no_two_files_import_each_other() -> None:
    assert not circles(SOURCE)


def test_a_family_is_known_by_name_in_its_folder_and_in_the_registry_alone() -> None:
    found = lines_with(SOURCE, family_names(), ("families/whisper/", "families/qwen3_asr/"))
    # The name of a shipped recipe, and the key under which a layout of other people's is told.
    others = ("families/registry.py", "cli/finetune.py: def show_examples", "corpus/datasets.py: row: Row")
    assert [line for line in found if not line.startswith(others)] == []


def test_a_run_is_read_and_written_in_one_place() -> None:
    assert not lines_with(SOURCE, RECORDS, ("runs.py",))


def test_a_scoring_is_written_in_one_place() -> None:
    named = {line.split(":")[0] for line in lines_with(SOURCE, re.compile(r"\bscoring\(|\bread_scoring\b"), ())}
    written = lines_with(SOURCE, re.compile(r"\bwrite_json\b"), ("runs.py",))
    assert not [line for line in written if line.split(":")[0] in named]


def test_the_workspace_is_no_folder_of_the_process() -> None:
    assert not lines_with(SOURCE, re.compile(r"\bchdir\b"), ())
    # What `--out` is when it is not given; the command joins it with the workspace.
    assert not lines_with(SOURCE, FOLDERS, ("cli/sources.py", "cli/summary.py", "examples/augment.py"))


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    print("functions over 60 lines      ", len(long_functions(place)))
    print("bodies of commands over 30   ", len(long_commands(place)))
    print("signatures over 7 parameters ", len(wide_signatures(place)))
    print("Any                          ", sum(counted_any(place).values()))
    print("circles between files        ", len(circles(place)))
    print(
        "readers of a run's files     ", len({line.split(":")[0] for line in lines_with(place, RECORDS, ("runs.py",))})
    )
