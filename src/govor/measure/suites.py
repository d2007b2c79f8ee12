"""Known test sets scored together, with the figures that others published on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from govor.config import Settings, parse, parse_yaml, read_yaml
from govor.corpus.formats.parquet import rows_into_blob
from govor.corpus.formats.rows import clip_of, shown
from govor.corpus.inventory import Statement
from govor.corpus.manifests import rejected, row_writer
from govor.corpus.shards import prepare_hub
from govor.corpus.sources import plan, registry, split_of
from govor.errors import AudioError, GovorError, nearest
from govor.metrics.intervals import choose_clusters, interval
from govor.metrics.recognition import ClipRow
from govor.metrics.text import NAME
from govor.metrics.wer import score, total
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


def find_suite(name: str) -> Suite:
    """A shipped suite by name, or a team's own as a YAML file with `title` and `sets`.

    Raises:
        GovorError: there is no such one.
    """
    if name.endswith((".yaml", ".yml")):
        return parse(Suite, read_yaml(Path(name)), name)
    if name not in suites():
        raise GovorError(f"There is no suite '{name}'; {nearest(name, list(suites()))}")
    return suites()[name]


def set_manifest(
    suite: str,
    name: str,
    wanted: TestSet,
    data: Path | None,
    notify: Callable[[str], None] = lambda _: None,
) -> Path:
    """The manifest of one set, made where it is not there yet: from `data/<set>/*.parquet`, else from the Hub.

    Raises:
        GovorError: the set is not to be had; the message says how to bring it.
    """
    target = Path("manifests") / "suites" / Path(suite).stem / f"{name}.jsonl"
    if target.exists():
        return target
    folder = Path("data") / "suites" / Path(suite).stem / name
    local = _local(data, name, wanted)
    if local:
        notify(f"{name}: reading {len(local)} parquet files")
        _from_parquet(local, folder, target, wanted)
        return target
    if data is not None:
        raise GovorError(f"{data / name} holds no parquet files for the set '{name}'.")
    notify(f"{name}: fetching {wanted.source}")
    planned = next((item for item in plan(wanted.source, (wanted.split,)) if item.skipped is None), None)
    if planned is None or not planned.shards:
        note = planned.note if planned else (registry().datasets[wanted.source].how or "it is fetched by hand")
        raise GovorError(
            f"{name}: {wanted.source} cannot be fetched ({note}); put its parquet files into DIR/{name}/ and give "
            "--suite-data DIR, or write its manifest to " + str(target) + "."
        )
    for _ in prepare_hub(Workspace(), planned, folder, target, Statement()):
        pass
    return target


def _local(data: Path | None, name: str, wanted: TestSet) -> list[Path]:
    if data is None:
        return []
    files = sorted(path for place in (data / name, data / wanted.source) for path in place.rglob("*.parquet"))
    return [path for path in files if split_of(path.as_posix()) == wanted.split] or files


def _from_parquet(files: list[Path], folder: Path, target: Path, wanted: TestSet) -> None:
    known = registry().datasets.get(wanted.source)
    stated = Statement(known.language if known and known.language not in ("mul", "und") else None, None)
    about = {"dataset": wanted.source, "license": known.license if known else None}
    count = 0
    rows = rows_into_blob(files, folder / "audio.blob", Workspace().relative(folder / "audio.blob"))
    with row_writer(target) as write, row_writer(target.with_name(f"{target.stem}.dropped.jsonl")) as drop:
        for number, row in enumerate(rows):
            row = {**row, **{key: value for key, value in about.items() if value}, "id": f"{target.stem}/{number:06d}"}
            try:
                write.clip(clip_of(Workspace(), row, target.parent, stated, f"{target.stem}: row {number}"))
                count += 1
            except (AudioError, GovorError) as error:
                rule = error.rule if isinstance(error, AudioError) else "malformed_row"
                drop(rejected(shown(row), rule, message=str(error)))
    if not count:
        target.unlink()
        raise GovorError(
            f"{files[0].parent} holds no row that can be scored; the reasons stand in {target.stem}.dropped.jsonl."
        )


def rate_by(rows: Sequence[ClipRow], normaliser: str) -> dict[str, Any]:
    """Corpus `wer` and `wer_interval` with any normaliser."""
    found = score(
        [row["reference"] for row in rows],
        [row["hypothesis"] for row in rows],
        [row.get("language") for row in rows],
        normaliser,
    )
    counts = [one.words for one in found]
    rate = total(counts).rate
    spread = interval([c.errors for c in counts], [c.length for c in counts], choose_clusters(rows))
    return {
        "wer": None if rate is None else round(rate, 6),
        "wer_interval": [round(spread.low, 6), round(spread.high, 6)] if spread else None,
    }


def set_result(
    suite: Suite, scorings: Mapping[str, tuple[dict[str, Any], list[ClipRow]]], overlap: dict[str, Any]
) -> dict[str, Any]:
    """What a suite keeps of one set: each context by itself, since the better of two on a test set is nobody's score.

    Args:
        scorings: summary and clip rows by context.
        overlap: what `measure.overlap.overlap` found of this set.
    """
    known = set(overlap["ids"])
    contexts = {}
    for context, (summary, rows) in scorings.items():
        clean = [row for row in rows if row["id"] not in known]
        contexts[context] = {
            **{key: summary[key] for key in ("clips", "wer", "wer_interval", "cer", "cer_interval", "file", "weights")},
            "manifest_sha256": summary["manifest"]["sha256"],
            "failed": len(summary.get("failed", [])),
            "normaliser": NAME,
            "about_words": summary.get("about_words"),
            "published": {"normaliser": suite.normaliser, **rate_by(rows, suite.normaliser)},
            "wer_without_overlap": rate_by(clean, NAME)["wer"] if 0 < len(clean) < len(rows) else None,
        }
    return {"contexts": contexts, "overlap": {key: value for key, value in overlap.items() if key != "ids"}}


def with_earlier(results: dict[str, dict[str, Any]], earlier: object) -> dict[str, dict[str, Any]]:
    """The results with the contexts that an earlier file of the suite holds of the same weights and clips, counted alike."""
    old = earlier.get("sets", {}) if isinstance(earlier, dict) else {}
    for name, found in results.items():
        (now, *_) = found["contexts"].values()
        for context, one in old.get(name, {}).get("contexts", {}).items():
            if all(one.get(key) == now[key] for key in ("weights", "manifest_sha256", "clips", "normaliser")):
                found["contexts"].setdefault(context, one)
    return results


def table(suite: Suite, model: str, ours: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of WER by set: the published ones, then ours in each context, with the suite's normaliser and the strict one."""
    rows: list[dict[str, Any]] = [
        {"model": name, "normaliser": suite.normaliser, **{name_: figures.get(name_) for name_ in suite.sets}}
        for name, figures in suite.published.items()
    ]
    contexts = dict.fromkeys(context for found in ours.values() for context in found["contexts"])
    for context in contexts:
        of_set = {name: ours[name]["contexts"].get(context, {}) if name in ours else {} for name in suite.sets}
        about = {"model": f"{model}, {context}"}
        if suite.normaliser != NAME:
            published = {name: found.get("published", {}).get("wer") for name, found in of_set.items()}
            rows.append({**about, "normaliser": suite.normaliser, **published})
        rows.append({**about, "normaliser": NAME, **{name: found.get("wer") for name, found in of_set.items()}})
    return rows
