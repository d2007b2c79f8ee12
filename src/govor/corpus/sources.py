"""The registry of known datasets, and what fetching some of them would mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field

from govor.config import Settings, parse, parse_yaml, read_yaml
from govor.corpus.records import Row
from govor.errors import GovorError, UnreachableError, nearest
from govor.hub import hub_refusal, is_network_error

_MP3_BYTES_PER_HOUR = 32_000_000  # what the ivrit.ai slices take


class Dataset(Settings):
    """One dataset as its publisher describes it."""

    title: str
    kind: Literal["hub", "debian", "manual"]
    language: str
    domain: str
    splits: tuple[str, ...]
    columns: tuple[str, ...] = ()
    repository: str | None = None
    revision: str = "main"
    folder: str | None = None
    packages: tuple[str, ...] = ()
    hours: float | None = None
    rows: int | None = None
    gigabytes: float | None = None
    license: str | None = None
    extra_terms: str | None = None
    date: str | None = None
    superseded_by: tuple[str, ...] = ()
    how: str | None = None

    @property
    def one_language(self) -> str | None:
        """What all of it is in; None where it holds several languages, or nobody says which."""
        return None if self.language in ("mul", "und") else self.language


class Collection(Settings):
    """Datasets that are used together, and related ones that are left out, each with its reason."""

    title: str
    datasets: tuple[str, ...]
    skipped: dict[str, str] = Field(default_factory=dict)


class Registry(Settings):
    """All of them."""

    datasets: dict[str, Dataset]
    collections: dict[str, Collection] = Field(default_factory=dict)


@cache
def registry(path: Path | None = None) -> Registry:
    """The shipped registry, or a team's own file of the same form, whose entries come on top.

    Raises:
        GovorError: a malformed file.
    """
    text = (resources.files("govor.corpus") / "sources.yaml").read_text(encoding="utf-8")
    shipped = parse(Registry, parse_yaml(text, "sources.yaml"), "sources.yaml")
    if path is None:
        return shipped
    own = parse(Registry, {"datasets": {}, **read_yaml(path)}, str(path))
    return Registry(
        datasets={**shipped.datasets, **own.datasets}, collections={**shipped.collections, **own.collections}
    )


@dataclass(frozen=True, slots=True)
class Shard:
    """One parquet file of a dataset's split."""

    path: str
    split: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Planned:
    """One dataset of a plan: what would be fetched, or why it is not."""

    name: str
    dataset: Dataset
    shards: tuple[Shard, ...] = ()
    skipped: str | None = None
    note: str | None = None

    @property
    def gigabytes(self) -> float | None:
        """True size where the Hub was asked, else the registry's, else an estimate from the hours."""
        if self.shards:
            return sum(shard.size_bytes for shard in self.shards) / 1e9
        if self.dataset.gigabytes is not None:
            return self.dataset.gigabytes
        return None if self.dataset.hours is None else self.dataset.hours * _MP3_BYTES_PER_HOUR / 1e9

    def as_dict(self) -> Row:
        """For people and machines."""
        gigabytes = self.gigabytes
        return {
            "dataset": self.name,
            "title": self.dataset.title,
            "language": self.dataset.language,
            "domain": self.dataset.domain,
            "hours": self.dataset.hours,
            "rows": self.dataset.rows,
            "gigabytes": None if gigabytes is None else round(gigabytes, 3),
            "gigabytes_known": bool(self.shards),
            "shards": len(self.shards) or None,
            "license": self.dataset.license or "unknown",
            "extra_terms": self.dataset.extra_terms,
            "skipped": self.skipped,
            "note": self.note,
        }


def plan(source: str, splits: tuple[str, ...], own: Path | None = None, ask_hub: bool = True) -> list[Planned]:
    """What `govor prepare SOURCE` would fetch: a dataset or a collection of the registry, or a Hub dataset's id.

    Raises:
        GovorError: nothing of that name.
    """
    known = registry(own)
    if source in known.collections:
        collection = known.collections[source]
        for name in (*collection.datasets, *collection.skipped):
            if name not in known.datasets:
                raise GovorError(
                    f"The collection {source} names '{name}', which is no dataset; {nearest(name, known.datasets)}"
                )
        planned = [_planned(name, known.datasets[name], splits, ask_hub) for name in collection.datasets]
        skipped = [Planned(name, known.datasets[name], skipped=why) for name, why in collection.skipped.items()]
        return planned + skipped
    if source in known.datasets:
        dataset = known.datasets[source]
        planned_one = _planned(source, dataset, splits, ask_hub)
        if dataset.superseded_by:
            better = " and ".join(dataset.superseded_by)
            return [
                Planned(
                    source, dataset, planned_one.shards, note=f"superseded by {better}; asked for by name, so fetched"
                )
            ]
        return [planned_one]
    if source.count("/") == 1 and not source.startswith((".", "/")):
        dataset = Dataset(
            title="a dataset of the Hub that the registry does not know",
            kind="hub",
            repository=source,
            language="und",
            domain="unknown",
            splits=splits or ("train",),
        )
        return [_planned(source.replace("/", "--"), dataset, splits, ask_hub)]
    names = [*known.datasets, *known.collections]
    raise GovorError(f"'{source}' is neither a known dataset nor a Hub id; {nearest(source, names)}")


def _planned(name: str, dataset: Dataset, splits: tuple[str, ...], ask_hub: bool) -> Planned:
    if dataset.kind == "manual":
        return Planned(name, dataset, skipped=f"fetched by hand: {dataset.how}")
    if dataset.kind == "debian" or not ask_hub:
        return Planned(name, dataset)
    try:
        shards = tuple(_shards(dataset, splits or dataset.splits[:1]))
    except UnreachableError as error:
        return Planned(name, dataset, note=f"sizes are the registry's: {error}")
    if not shards:
        raise GovorError(f"{dataset.repository} has no parquet files for {', '.join(splits or dataset.splits[:1])}.")
    return Planned(name, dataset, shards)


def _shards(dataset: Dataset, splits: tuple[str, ...]) -> list[Shard]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

    refusal = hub_refusal(f"datasets/{dataset.repository}")
    if refusal:
        raise UnreachableError(refusal)
    try:
        tree = HfApi().list_repo_tree(
            str(dataset.repository), dataset.folder, recursive=True, revision=dataset.revision, repo_type="dataset"
        )
        files = [entry for entry in tree if isinstance(entry, RepoFile) and entry.path.endswith(".parquet")]
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise UnreachableError(f"the Hub answers {status} for {dataset.repository}") from None
    except Exception as error:
        if not is_network_error(error):
            raise
        raise UnreachableError(f"the Hub cannot be reached ({type(error).__name__})") from None
    shards = [Shard(file.path, split_of(file.path), int(file.size or 0)) for file in files]
    chosen = [shard for shard in shards if shard.split in splits]
    # A dataset whose files say nothing of a split is all training.
    return sorted(chosen or ([s for s in shards if not s.split] if "train" in splits else []), key=lambda s: s.path)


def split_of(path: str) -> str:
    """`data/train-00000-of-00042.parquet` and `he_il/train/0000.parquet` are of split `train`."""
    file = Path(path)
    for part in (file.stem, *reversed(file.parent.parts)):
        word = part.split("-")[0].lower()
        if word in ("train", "validation", "valid", "dev", "test", "eval"):
            return {"valid": "validation"}.get(word, word)
    return ""
