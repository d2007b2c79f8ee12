"""Fetching known datasets: encoded audio in blobs, a manifest, licences in every row. The same call again goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from govor.corpus import fillets, prompts
from govor.corpus.formats import export
from govor.corpus.inventory import Statement
from govor.corpus.manifests import Manifest, read_clips, row_writer, write_clips
from govor.corpus.outputs import counted_words, dropped_beside
from govor.corpus.preprocess import PreprocessSettings, preprocess
from govor.corpus.records import Clip, Row
from govor.corpus.shards import prepare_hub
from govor.corpus.sources import Planned
from govor.corpus.vad import Vad
from govor.errors import GovorError
from govor.files import refuse_existing
from govor.progress import SILENT, Progress, counted
from govor.runs import Workspace

Layout = Literal["govor", "qwen3-asr"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One dataset that lies in the workspace now; hours, dropped rows and shards that were there are known of a fetched one."""

    dataset: str
    manifest: Path
    clips: int
    hours: float | None = None
    dropped: dict[str, int] | None = None
    reused_shards: int | None = None
    qwen3_asr: Path | None = None

    def as_dict(self, workspace: Workspace) -> Row:
        """For people and machines."""
        row: Row = {
            "dataset": self.dataset,
            "manifest": workspace.as_given(self.manifest),
            "clips": self.clips,
            "hours": None if self.hours is None else round(self.hours, 3),
            "dropped": self.dropped,
            "reused_shards": self.reused_shards,
            "qwen3_asr": None if self.qwen3_asr is None else workspace.as_given(self.qwen3_asr),
        }
        return {key: value for key, value in row.items() if value is not None}


def prepare(
    workspace: Workspace,
    planned: Sequence[Planned],
    statement: Statement,
    layout: Layout = "govor",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> list[Prepared]:
    """Fetch the datasets of a plan that are not skipped, each into `manifests/NAME.jsonl` and `data/sources/NAME/`.

    Args:
        layout: qwen3-asr also writes 16 kHz WAV files and the JSONL of Qwen3-ASR's own fine-tuning.

    Raises:
        GovorError: a dataset that cannot be fetched or holds nothing, or too little space.
        UnreachableError: nothing answers; what is done stays.
    """
    wanted = [item for item in planned if item.skipped is None]
    check_space(workspace, sum(item.gigabytes or 0 for item in wanted))
    made: list[Prepared] = []
    for item in wanted:
        target = workspace.manifests / f"{item.name}.jsonl"
        if (
            len(wanted) > 1 and target.exists() and not overwrite
        ):  # the run of a collection was cut short after this one
            progress.note(f"{workspace.as_given(target)} is there already")
            made.append(Prepared(item.name, target, len(Manifest(target))))
            continue
        refuse_existing(target, overwrite)
        if item.dataset.kind == "debian":
            one = Prepared(item.name, target, _of_debian(item, target, progress))
        elif not item.shards:
            raise GovorError(f"{item.name} cannot be fetched: {item.note}. Nothing was written.")
        else:
            one = _of_hub(workspace, item, target, statement, progress)
        made.append(one if layout == "govor" else _as_qwen(workspace, one, progress))
    return made


def check_space(workspace: Workspace, gigabytes: float) -> None:
    """Refuse what does not fit: the blobs, and one shard beside them."""
    free = shutil.disk_usage(workspace.root).free / 1e9
    if gigabytes * 1.05 + 0.6 > free:
        raise GovorError(
            f"{gigabytes:.1f} GB would be fetched and {free:.1f} GB are free here; free some space, take another --workspace, or fewer --shards."
        )


def _of_hub(workspace: Workspace, item: Planned, target: Path, statement: Statement, progress: Progress) -> Prepared:
    folder = workspace.data / "sources" / item.name
    with progress.bar(f"prepare {item.name}", len(item.shards)) as bar:
        for number, done in prepare_hub(workspace, item, folder, target, statement):
            bar.to(number, len(item.shards), f"{done.clips} clips")
    if not done.clips:
        raise GovorError(
            f"{item.name} holds no usable row ({counted_words(done.dropped)}); they are listed in {target.stem}.dropped.jsonl."
        )
    return Prepared(item.name, target, done.clips, done.hours, dict(done.dropped), done.reused_shards)


def _of_debian(item: Planned, target: Path, progress: Progress) -> int:
    if item.name.startswith("asterisk-"):
        source = prompts.prepare(item.dataset.language, progress.note)
    else:
        source = fillets.prepare(progress.note)
    clips = (clip.replace(extra={**clip.extra, "dataset": item.name}) for clip in read_clips(source))
    return write_clips(target, clips)


def _as_qwen(workspace: Workspace, made: Prepared, progress: Progress) -> Prepared:
    """WAV files and the JSONL that Qwen3-ASR's own fine-tuning script reads."""
    clips = Manifest(made.manifest, workspace.root)
    settings = PreprocessSettings(min_source_seconds=PreprocessSettings().min_seconds)  # clips of a dataset are slices
    folder = workspace.data / "processed" / f"{made.dataset}-wav"
    results = preprocess(workspace, clips, folder, settings, Vad("energy"), resume=True)
    target = made.manifest.with_name(f"{made.dataset}.qwen3-asr.jsonl")
    with row_writer(dropped_beside(target)) as drop:

        def usable() -> Iterator[Clip]:
            for result in counted(results, progress, "write WAV", len(clips)):
                for row in result.dropped:
                    drop(row)
                yield from result.clips

        export(usable(), "qwen3-asr", target)
    return Prepared(made.dataset, made.manifest, made.clips, made.hours, made.dropped, made.reused_shards, target)
