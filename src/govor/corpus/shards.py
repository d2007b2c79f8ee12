"""A dataset of parquet shards → blobs of the original encoded bytes and a manifest, shard by shard.

A shard is fetched, written out and removed before the next one: 150 GB need neither 150 GB of memory nor decoded copies.
A shard is done when its rows file stands; a run that was cut short goes on with the next.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from govor.corpus.formats.parquet import placed, shard_rows
from govor.corpus.formats.rows import clip_of, shown
from govor.corpus.inventory import Statement
from govor.corpus.manifests import read_rows, rejected, row_writer
from govor.corpus.outputs import dropped_beside
from govor.corpus.records import Row
from govor.corpus.sources import Planned, Shard
from govor.errors import AudioError, GovorError, UnreachableError, disk_errors
from govor.hub import is_network_error
from govor.runs import Workspace


@dataclass
class Done:
    """What preparing one dataset came to."""

    clips: int = 0
    hours: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    reused_shards: int = 0


def prepare_hub(
    workspace: Workspace, planned: Planned, folder: Path, manifest: Path, statement: Statement
) -> Iterator[tuple[int, Done]]:
    """Fetch and convert the shards of one dataset into `folder`, then write `manifest` and its dropped rows.

    `statement` says what the dataset itself does not: language and licence. Yields (shards done, counts so far).

    Raises:
        UnreachableError: the Hub does not answer; what is done stays.
    """
    dataset, done = planned.dataset, Done()
    stated = replace(statement, language=statement.language or dataset.one_language)
    extra = {
        "dataset": planned.name,
        "license": dataset.license,
        "extra_terms": dataset.extra_terms,
        "date": dataset.date,
    }
    parts = [_part(folder, shard) for shard in planned.shards]
    for number, (shard, part) in enumerate(zip(planned.shards, parts, strict=True), start=1):
        if part.exists():
            done.reused_shards += 1
        else:
            incoming = folder / ".incoming"
            file = _fetch(str(dataset.repository), dataset.revision, shard, incoming)
            _convert(workspace, file, part, stated, extra)
            shutil.rmtree(incoming, ignore_errors=True)
        _count(part, done)
        yield number, done
    with row_writer(manifest) as write, row_writer(dropped_beside(manifest)) as drop:
        for part in parts:
            for _, row in read_rows(part):
                (drop if "rule" in row else write)(row)


def _part(folder: Path, shard: Shard) -> Path:
    """Where the rows of a shard stand; the name keeps shards of several folders apart."""
    return folder / f"{Path(shard.path).with_suffix('').as_posix().replace('/', '--')}.jsonl"


def _fetch(repository: str, revision: str, shard: Shard, incoming: Path) -> Path:
    """One shard into `incoming`; the Hub's own client goes on where a broken transfer stopped."""
    from huggingface_hub import hf_hub_download

    incoming.mkdir(parents=True, exist_ok=True)
    try:
        path = hf_hub_download(repository, shard.path, repo_type="dataset", revision=revision, local_dir=incoming)
    except Exception as error:
        if not is_network_error(error):
            raise
        raise UnreachableError(
            f"{repository}/{shard.path} cannot be fetched ({type(error).__name__}); run the same command again to go on."
        ) from error
    if shard.size_bytes and Path(path).stat().st_size != shard.size_bytes:
        raise UnreachableError(f"{repository}/{shard.path} came in the wrong size; run the same command again.")
    return Path(path)


def _convert(workspace: Workspace, file: Path, part: Path, stated: Statement, extra: Row) -> None:
    """One shard's audio into its blob, its rows into its rows file; rejected rows stand there with their rule."""
    blob, name = part.with_suffix(".blob"), f"{extra['dataset']}/{part.stem}"
    with disk_errors(blob, blob.name), row_writer(part) as write, blob.open("wb") as handle:
        for number, row in enumerate(shard_rows(file)):
            stored = placed(
                {**row, **{k: v for k, v in extra.items() if v}},
                handle,
                workspace.relative(blob),
                f"{name}/{number:06d}",
            )
            own = stored.get("id")
            stored["id"] = f"{name}/{number:06d}"  # ids of a set's own columns need not be unique across shards
            if own != stored["id"]:
                stored.setdefault("dataset_id", own)
            try:
                clip = clip_of(workspace, stored, part.parent, stated, f"{file.name}: row {number}")
            except AudioError as error:
                write(rejected(shown(stored), error.rule, message=str(error)))
            except GovorError as error:
                write(rejected(shown(stored), "malformed_row", message=str(error)))
            else:
                write.clip(clip)


def _count(part: Path, done: Done) -> None:
    for _, row in read_rows(part):
        if "rule" in row:
            done.dropped[row["rule"]] += 1
        else:
            done.clips += 1
            done.hours += row["duration"] / 3600
