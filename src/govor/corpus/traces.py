"""Where a forgotten speaker or source still stands: runs that learned from them, and files that are not ours to cut."""

from __future__ import annotations

import html
import re
from pathlib import Path

from govor.corpus.alike import name_key
from govor.corpus.inventory import MOVED_JOURNAL
from govor.corpus.manifests import read_rows
from govor.corpus.moves import duplicates_folder, with_sidecars
from govor.corpus.records import Row
from govor.corpus.tombstones import tombstones_file
from govor.corpus.wishes import SPEAKER_KEYS, Plan, Wish
from govor.files import sha256_of
from govor.runs import Workspace

# What may hold a name, a clip's id or its words beside rows of clips.
_TEXTS = frozenset(
    {".html", ".js", ".json", ".jsonl", ".md", ".yaml", ".yml", ".log", ".txt", ".srt", ".vtt", ".lrc", ".csv", ".tsv"}
)


def history_file(workspace: Workspace) -> Path:
    """How manifests were before and after each forgetting, by their hashes."""
    return workspace.manifests / "forgotten_from.jsonl"


def find_runs(plan: Plan) -> None:
    """Runs by their record: what they name must be the manifest as it was, or as it was before earlier forgetting."""
    workspace = plan.workspace
    history = history_file(workspace)
    after: dict[tuple[str, str], str] = {}
    if history.exists():
        after = {(row["path"], row["before"]): row["after"] for _, row in read_rows(history)}
    touched = {*plan.rows, *plan.contexts}
    for run in workspace.runs():
        if not run.finished:
            continue
        entries = [entry for entry in run.data().values() if isinstance(entry, dict) and "path" in entry]
        states = [_state(workspace, entry, after) for entry in entries]
        if any(known and path in touched for path, known in states):
            plan.runs.append(workspace.as_given(run.folder))
        elif not all(known for _, known in states):
            plan.unknown_runs.append(workspace.as_given(run.folder))


def _state(workspace: Workspace, entry: Row, after: dict[tuple[str, str], str]) -> tuple[str, bool]:
    name, digest = Path(entry["path"]).as_posix(), str(entry.get("sha256"))
    while (name, digest) in after:
        digest = after[name, digest]
    path = workspace.path(name)
    return name, path.exists() and sha256_of(path) == digest


def find_left(wish: Wish, plan: Plan, row_files: set[Path]) -> None:
    """Files that are not ours to cut rows out of: parquet whose columns name them; pages, summaries, results and logs whose
    text does; tables and notes that lie beside their audio. `row_files` are those whose rows are cut out."""
    workspace, moves = plan.workspace, duplicates_folder(plan.workspace) / MOVED_JOURNAL
    for path in sorted(workspace.manifests.rglob("*.parquet")):
        if _parquet_holds(path, wish, plan):
            plan.left.append(workspace.as_given(path))
    named = _Names({wish.value, *plan.clips} if len(wish.value) > 2 else plan.clips)
    going = {beside for file in plan.files for beside in with_sidecars(file)}
    going |= {tombstones_file(workspace), history_file(workspace)}
    # In a log, a number is rather a step than a clip's id.
    elsewhere = _Names({name for name in (wish.value, *plan.clips) if len(name) > 2 and not name.isdigit()})
    places = {
        **dict.fromkeys((workspace.reports, workspace.manifests, workspace.models), named),
        **dict.fromkeys((workspace.outputs, workspace.logs, workspace.data, workspace.uploads), elsewhere),
    }
    for folder, names in places.items():
        files = folder.glob("*/*/*.md") if folder == workspace.models else folder.rglob("*")
        for path in sorted({path for path in files if path.suffix.lower() in _TEXTS} - row_files - going):
            inside = path == moves or any(gone in path.parents for gone in plan.outputs)
            if path.is_file() and not inside and names.stand_in(path):
                plan.left.append(workspace.as_given(path))
    if wish.kind == "speaker":
        folders = {folder for file in plan.files for folder in (file.parent, file.parent.parent)}
        notes = {path for folder in folders for path in folder.glob("*") if path.suffix.lower() in _TEXTS}
        for path in sorted(notes - row_files - going - set(map(workspace.path, plan.left))):
            if path.is_file() and _Names({wish.value}).stand_in(path):
                plan.beside.append(workspace.as_given(path))


class _Names:
    """Names and ids looked for in texts, as whole words, whichever way their letters are composed or escaped."""

    _BREAKS = re.compile(r"""[\s"'<>,;:()\[\]{}|=&\\]+""")

    def __init__(self, names: set[str]) -> None:
        self._plain: set[str] = set()
        others: set[str] = set()
        for form in {name_key(written) for name in names for written in (name, html.escape(name))} - {""}:
            (others if self._BREAKS.search(form) else self._plain).add(form)
        self._others = sorted(others)

    def stand_in(self, path: Path) -> bool:
        """Whether any of them does. Ids by the hundred thousand are looked up, not tried one by one."""
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except OSError:
            return True  # nobody can tell, so it is named
        words = {name_key(word) for word in self._BREAKS.split(text)}
        words |= {word.strip(".!?/#-") for word in words} | {part for word in words for part in word.split("/")}
        if words & self._plain:
            return True
        line = name_key(text) if self._others else ""
        return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", line) for name in self._others if name in line)


def _parquet_holds(path: Path, wish: Wish, plan: Plan) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in (*SPEAKER_KEYS, "source", "dataset", "id")]
            for batch in file.iter_batches(columns=columns):
                if any(wish.covers(row) or str(row.get("id")) in plan.clips for row in batch.to_pylist()):
                    return True
    except (pa.ArrowInvalid, OSError):
        return True  # nobody can tell, so it is named
    return False
