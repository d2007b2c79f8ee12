"""Known test sets scored together, with the figures that others published on them."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import Field

from govor.config import Settings, parse, parse_yaml, read_yaml
from govor.corpus.formats.parquet import rows_into_blob
from govor.corpus.formats.rows import clip_of, shown
from govor.corpus.inventory import Statement
from govor.corpus.manifests import rejected, row_writer
from govor.corpus.shards import prepare_hub
from govor.corpus.sources import plan, registry, split_of
from govor.errors import AudioError, GovorError, nearest
from govor.metrics.text import NAME
from govor.progress import SILENT, Progress
from govor.runs import Workspace


class TestSet(Settings):
    """One set of a suite."""

    source: str = Field(description="a dataset of the registry, or a Hub id")
    split: str = Field("test", description="the split that is scored")


class Suite(Settings):
    """Sets that are scored together."""

    title: str
    sets: dict[str, TestSet]
    normaliser: str = Field(NAME, description="what the published figures were scored with")
    published_from: str | None = None
    published: dict[str, dict[str, float]] = Field(default_factory=dict)


class Suites(Settings):
    """All of them."""

    suites: dict[str, Suite]


@cache
def suites() -> dict[str, Suite]:
    """The shipped suites by name."""
    text = (resources.files("govor.measure") / "suites.yaml").read_text(encoding="utf-8")
    return parse(Suites, parse_yaml(text, "suites.yaml"), "suites.yaml").suites


def find_suite(workspace: Workspace, name: str) -> Suite:
    """A shipped suite by name, or a team's own as a YAML file of the workspace with `title` and `sets`.

    Raises:
        GovorError: there is no such one.
    """
    if name.endswith((".yaml", ".yml")):
        return parse(Suite, read_yaml(workspace.path(name)), name)
    if name not in suites():
        raise GovorError(f"There is no suite '{name}'; {nearest(name, list(suites()))}")
    return suites()[name]


def suite_manifest(workspace: Workspace, suite: str, name: str) -> Path:
    """Where the manifest of one set of a suite stands."""
    return workspace.manifests / "suites" / suite / f"{name}.jsonl"


def set_manifest(
    workspace: Workspace, suite: str, name: str, wanted: TestSet, data: Path | None, progress: Progress = SILENT
) -> Path:
    """The manifest of one set, made where it is not there yet: from `data/<set>/*.parquet`, else from the Hub.

    Raises:
        GovorError: the set is not to be had; the message says how to bring it.
    """
    suite = Path(suite).stem
    target = suite_manifest(workspace, suite, name)
    if target.exists():
        return target
    folder = workspace.data / "suites" / suite / name
    local = _local(data, name, wanted)
    if local:
        progress.note(f"{name}: reading {len(local)} parquet files")
        _from_parquet(workspace, local, folder, target, wanted)
        return target
    if data is not None:
        raise GovorError(f"{data / name} holds no parquet files for the set '{name}'.")
    progress.note(f"{name}: fetching {wanted.source}")
    planned = next((item for item in plan(wanted.source, (wanted.split,)) if item.skipped is None), None)
    if planned is None or not planned.shards:
        note = planned.note if planned else (registry().datasets[wanted.source].how or "it is fetched by hand")
        raise GovorError(
            f"{name}: {wanted.source} cannot be fetched ({note}); put its parquet files into DIR/{name}/ and give "
            "--suite-data DIR, or write its manifest to " + str(target) + "."
        )
    for _ in prepare_hub(workspace, planned, folder, target, Statement()):
        pass
    return target


def _local(data: Path | None, name: str, wanted: TestSet) -> list[Path]:
    if data is None:
        return []
    files = sorted(path for place in (data / name, data / wanted.source) for path in place.rglob("*.parquet"))
    return [path for path in files if split_of(path.as_posix()) == wanted.split] or files


def _from_parquet(workspace: Workspace, files: list[Path], folder: Path, target: Path, wanted: TestSet) -> None:
    known = registry().datasets.get(wanted.source)
    stated = Statement(known.one_language if known else None, None)
    about = {"dataset": wanted.source, "license": known.license if known else None}
    count = 0
    rows = rows_into_blob(files, folder / "audio.blob", workspace.relative(folder / "audio.blob"))
    with row_writer(target) as write, row_writer(target.with_name(f"{target.stem}.dropped.jsonl")) as drop:
        for number, row in enumerate(rows):
            row = {**row, **{key: value for key, value in about.items() if value}, "id": f"{target.stem}/{number:06d}"}
            try:
                write.clip(clip_of(workspace, row, target.parent, stated, f"{target.stem}: row {number}"))
                count += 1
            except (AudioError, GovorError) as error:
                rule = error.rule if isinstance(error, AudioError) else "malformed_row"
                drop(rejected(shown(row), rule, message=str(error)))
    if not count:
        target.unlink()
        raise GovorError(
            f"{files[0].parent} holds no row that can be scored; the reasons stand in {target.stem}.dropped.jsonl."
        )
