"""Augmentation outside of training: copies of every clip as files, or a page that shows and plays what would be done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from govor import engine
from govor.corpus.manifests import Manifest, read_clips
from govor.corpus.outputs import outputs
from govor.corpus.records import Row
from govor.corpus.samples import clip_samples
from govor.errors import GovorError
from govor.examples.augment import CONFIG, Augmenter, AugmentSettings, load_settings
from govor.examples.copies import write_copy
from govor.examples.preview import page
from govor.files import refuse_existing, write_text
from govor.progress import SILENT, Progress, counted
from govor.runs import Workspace, check_name, plain_name


@dataclass(frozen=True, slots=True)
class Copies:
    """What is to be written: so many augmented copies of every clip, and the clips as they are where `originals` says so."""

    name: str | None = None
    copies: int = 1
    originals: bool = True
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Augmented:
    """What was written: clips, how many got which effect, what was dropped."""

    target: Path
    clips: int
    effects: dict[str, int]
    dropped: dict[str, int]

    def as_dict(self) -> Row:
        """For people and machines."""
        return {"clips": self.clips, "effects": self.effects, "dropped": self.dropped}


def open_augmenter(workspace: Workspace, config: Path | None = None, progress: Progress = SILENT) -> Augmenter:
    """Augmentation by `config`, else by the workspace's configs/augment.yaml, else by the defaults."""
    file = config or (workspace.path(CONFIG) if workspace.path(CONFIG).exists() else None)
    augmenter = Augmenter.of(load_settings(file) if file else AugmentSettings(), workspace.root)
    progress.note(f"settings: {workspace.as_given(file) if file else 'the defaults'}")
    return augmenter


def augment_file(
    workspace: Workspace, source: Path, augmenter: Augmenter, wanted: Copies, progress: Progress = SILENT
) -> Augmented:
    """Write augmented copies of every clip of a manifest, into `manifests/NAME.jsonl` and `data/augmented/NAME/`.

    Raises:
        GovorError: no clips, or the result is there already.
    """
    manifest = _with_clips(workspace, source)
    name = check_name(wanted.name or f"{plain_name(source.stem)}-augmented")
    target = workspace.manifests / f"{name}.jsonl"
    if target.resolve() == source.resolve():
        raise GovorError(f"{target} would be written over its own source; give another --name.")
    refuse_existing(target, wanted.overwrite, "--overwrite to replace it, or another --name")
    write = partial(write_copy, augmenter=augmenter, folder=workspace.data / "augmented" / name)
    effects: Counter[str] = Counter()
    with outputs(workspace, target) as (keep, rejections):
        if wanted.originals:
            for clip in read_clips(source, workspace.root):
                keep.clip(clip)
        work = ((clip, draw) for clip in read_clips(source, workspace.root) for draw in range(wanted.copies))
        results = engine.map(work, write, "processes")
        for clip, done, rejection in counted(results, progress, "augment", wanted.copies * len(manifest)):
            if rejection:
                rejections(rejection)
                continue
            keep.clip(clip)
            effects.update(note.split()[0] for note in done)
            effects["untouched"] += not done
    return Augmented(target, keep.count, dict(effects.most_common()), rejections.by_rule())


def preview_file(
    workspace: Workspace,
    source: Path,
    augmenter: Augmenter,
    out: Path,
    clips: int = 3,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Write a page with some clips of a manifest, taken evenly: as they are, with every effect, and as training draws them."""
    manifest = _with_clips(workspace, source)
    refuse_existing(out, overwrite)
    step = max(1, len(manifest) // clips)
    chosen = [manifest[number] for number in range(0, len(manifest), step)][:clips]
    passing = counted(chosen, progress, "preview", len(chosen))
    write_text(out, page(augmenter, [(clip.id, clip.transcript, clip_samples(clip)) for clip in passing], draws=2))


def _with_clips(workspace: Workspace, source: Path) -> Manifest:
    manifest = Manifest(source, workspace.root)
    if not len(manifest):
        raise GovorError(f"{source} holds no clips, so there is nothing to augment.")
    return manifest
