"""Recordings from the web into `uploads/`, each with where it came from and under which licence.

Direct links are fetched here; everything else goes to yt-dlp (the `harvest` extra) or to a team's own downloader. An item
without a known licence is quarantined: it is in the inventory, and no command trains on it until somebody states one.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from govor.corpus.download import HarvestError, Item, Notify, Options, fetch, url_key
from govor.corpus.inventory import Statement, find_recordings
from govor.corpus.licenses import canonical
from govor.corpus.manifests import read_rows, rejected, row_writer
from govor.corpus.outputs import Rejections
from govor.corpus.provenance import ITEM_SUFFIX, Provenance, item_file, read_item, there
from govor.corpus.public_http import check_url
from govor.corpus.records import Row
from govor.corpus.scan import InventoryReport, take_inventory
from govor.errors import GovorError
from govor.files import read_text, shortened
from govor.jsons import write_json
from govor.progress import SILENT, Progress, counted
from govor.runs import Workspace


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an item: a file, or a rule and a message."""

    item: Item
    path: Path | None = None
    reused: bool = False
    quarantined: bool = False
    rule: str | None = None
    message: str | None = None


def read_items(workspace: Workspace, sources: list[str], stated: Provenance) -> Iterator[Item]:
    """URLs as given, or from lists: a `.txt` with one a line, a `.csv` or `.jsonl` with `url` and what is stated of each.

    Raises:
        GovorError: a list that cannot be read, or a line without a URL.
    """
    for source in sources:
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", source):
            yield Item(source, stated)
            continue
        path = workspace.path(source)
        if not there(path):
            raise GovorError(f"'{shortened(source)}' is neither a URL nor a list of URLs (.txt, .csv, .jsonl).")
        number = 0
        for number, row in enumerate(_list_rows(path), start=1):
            if _MORE in row:
                raise GovorError(
                    f"{path}: row {number} has more cells than the list has columns; put texts with commas into quotes."
                )
            url = str(row.get("url") or row.get("source_url") or "").strip()
            if not url:
                raise GovorError(f"{path}: row {number} has no 'url'.")
            known = {k: str(v) for k, v in row.items() if k in Provenance.model_fields and v not in (None, "")}
            yield Item(url, Provenance.model_validate(known).over(stated))
        if not number:
            raise GovorError(f"{path} lists no URL; one a line (.txt), or a column 'url' (.csv, .jsonl) was wanted.")


_MORE = " cells that no column is for"


def _list_rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".jsonl":
        yield from (row for _, row in read_rows(path))
        return
    text = read_text(path)
    if path.suffix == ".csv":
        yield from csv.DictReader(io.StringIO(text), restkey=_MORE)
        return
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield {"url": line.split()[0]}


@dataclass(frozen=True, slots=True)
class Harvested:
    """What came of a list of items: how many were fetched, there already, in quarantine; failures by rule; the inventory that
    was brought up to date, if there is anything to list."""

    folder: Path
    counts: Counter[str]
    failed: dict[str, int]
    inventory: InventoryReport | None

    def as_dict(self) -> Row:
        """For people and machines."""
        counts: Row = {name: self.counts[name] for name in ("fetched", "already_there", "quarantined")}
        there = {} if self.inventory is None else {"inventory": self.inventory.recordings}
        return {**counts, "failed": self.failed, **there}


def harvest(workspace: Workspace, items: list[Item], options: Options, progress: Progress = SILENT) -> Harvested:
    """Fetch recordings into `options.folder`, then bring the inventory of the workspace up to date. What failed stands in
    harvest_failed.jsonl; the same call goes on with it."""
    folder, counts = options.folder, Counter[str]()
    folder.mkdir(parents=True, exist_ok=True)
    failures = folder / "harvest_failed.jsonl"
    with row_writer(failures) as write:
        failed = Rejections(write, workspace)
        for outcome in counted(fetch_all(items, options, progress.note), progress, "harvest", len(items)):
            if outcome.path is None:
                failed(rejected({"url": outcome.item.url}, str(outcome.rule), message=outcome.message))
                progress.note(f"failed  {outcome.message}")
                continue
            counts["already_there" if outcome.reused else "fetched"] += 1
            counts["quarantined"] += outcome.quarantined
    if not failed:
        failures.unlink()
    inventory = None
    if any(find_recordings(folder)):
        inventory = take_inventory(workspace, [folder], Statement(), resume=True, progress=progress)
    return Harvested(folder, counts, failed.by_rule(), inventory)


def fetch_all(items: list[Item], options: Options, notify: Notify) -> Iterator[Outcome]:
    """Fetch every item that does not lie there already; one item's failure does not stop the others."""
    index = _index(options.folder)
    for item in items:
        earlier = index.get(url_key(item.url))
        try:
            link = check_url(item.url)
            path = earlier or fetch(item, link, options, notify)
            if earlier:
                _restate(earlier, item.stated)
        except HarvestError as error:
            yield Outcome(item, rule=error.rule, message=str(error))
        except GovorError as error:
            yield Outcome(item, rule="refused", message=str(error))
        else:
            license = read_item(item_file(path)).license
            index[url_key(item.url)] = path
            yield Outcome(item, path, reused=earlier is not None, quarantined=canonical(license) is None)


def _index(folder: Path) -> dict[str, Path]:
    """Files of earlier runs by the key of their URL."""
    files = {}
    for file in folder.glob(f"*{ITEM_SUFFIX}"):
        audio = file.with_name(file.name.removesuffix(ITEM_SUFFIX))
        if audio.is_file():
            files[audio.stem.rpartition("-")[2]] = audio
    return files


def _restate(audio: Path, stated: Provenance) -> None:
    """What is stated now is written over what was stated then."""
    file = item_file(audio)
    write_json(file, stated.over(read_item(file)).model_dump(exclude_none=True))
