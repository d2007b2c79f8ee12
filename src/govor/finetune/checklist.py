"""What is looked at before the first step: the data, the disk, the folder, the GPU's memory; every line with its figures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import AudioError, GovorError, disk_errors
from govor.examples.phases import Phase
from govor.families.adapters import has_adapters
from govor.families.base import Family
from govor.finetune import groups
from govor.finetune.checkpoints import WITH_OPTIMIZER, most_kept, weights_of
from govor.finetune.phases import even_steps
from govor.finetune.prepare import Ready
from govor.finetune.survey import SourceData
from govor.progress import Progress
from govor.recipe import Recipe
from govor.runs import Run

_SAMPLED = 24
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes: of a checkpoint's weights, and of the parameters that train at once."""

    weights: int
    trained: int

    @property
    def resumable(self) -> int:
        """Of a checkpoint that can be resumed from: AdamW keeps two moments of each trained parameter."""
        return self.weights + 2 * self.trained


def check(
    recipe: Recipe, run: Run, family: Family, ready: Ready, device: str, resume: bool, progress: Progress
) -> None:
    """Say what was found, line by line; nothing is changed.

    Raises:
        GovorError: with which the run cannot be done.
    """
    _manifests(ready.sources, progress)
    _audio(ready.sources, progress)
    _folder(run.folder, progress)
    sizes = _sizes(family, ready.phases)
    _disk(recipe, run, len(even_steps(ready.phases, recipe.evaluation.evaluations)), sizes, resume, progress)
    _memory(family, sizes.trained, device, progress)


def _manifests(sources: Sequence[SourceData], progress: Progress) -> None:
    train, held_out = sum(len(s.train) for s in sources), sum(len(s.validation) for s in sources)
    hours = sum(s.seconds for s in sources) / 3600
    progress.note(
        f"check manifests: {train} training clips of {hours:.2f} h and {held_out} validation clips, every row valid"
    )


def _audio(sources: Sequence[SourceData], progress: Progress) -> None:
    clips = [clip for source in sources for clip in _spread(source.train, -(-_SAMPLED // len(sources)))]
    failures = [failure for failure in map(_unreadable, clips) if failure]
    if failures and len(failures) == len(clips):
        raise GovorError(f"None of {len(clips)} sampled training clips can be read; the first: {failures[0]}")
    text = f"check audio: every file is there; {len(clips) - len(failures)} of {len(clips)} sampled clips decode"
    if failures:
        text += f" (warning: {failures[0]} Such clips are left out and listed in dropped.jsonl)"
    progress.note(text)


def _spread(rows: Sequence[Clip], count: int) -> list[Clip]:
    count = min(count, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def _unreadable(clip: Clip) -> str | None:
    try:
        clip_samples(clip)
    except AudioError as error:
        return str(error)
    return None


def _folder(run: Path, progress: Progress) -> None:
    place = _existing(run)
    with disk_errors(run, "the run"):
        probe = place / f".govor-{os.getpid()}"
        probe.touch()
        probe.unlink()
    progress.note(f"check folder: {run} can be written")


def _existing(run: Path) -> Path:
    """The folder that is there already of those that lead to the run; through a link where it is one."""
    place = run
    while not place.is_dir():
        place = place.parent
    return place


def _sizes(family: Family, phases: Sequence[Phase]) -> Sizes:
    module, parts = family.module, family.parts()
    if has_adapters(module):
        parts = groups.adapter_parts(parts)
    named = dict(module.named_parameters())
    trained = max(
        sum(
            named[name].numel() * named[name].element_size()
            for group in groups.assign(parts, phase.rates)
            for name in group.parameters
        )
        for phase in phases
    )
    whole = sum(tensor.numel() * tensor.element_size() for tensor in weights_of(module).values())
    return Sizes(trained if has_adapters(module) else whole, trained)


def _disk(recipe: Recipe, run: Run, evaluations: int, sizes: Sizes, resume: bool, progress: Progress) -> None:
    """The newest checkpoints, and the one that is being written, hold AdamW's moments."""
    weights, folder = sizes.weights, run.folder
    fewest, most = most_kept(recipe.evaluation, evaluations)
    moments = 2 * sizes.trained * min(WITH_OPTIMIZER + 1, evaluations)
    average = weights if recipe.evaluation.average else 0
    least, at_most = fewest * weights + moments, most * weights + moments + average
    place = _existing(folder)
    there = _bytes_below(run.checkpoints) if resume else 0
    # An old run that is replaced is deleted before the first step.
    free = shutil.disk_usage(place).free + (0 if resume or folder.is_symlink() else _bytes_below(folder))
    missing = max(least - there, sizes.resumable)
    figures = (
        f"checkpoints of {_size(sizes.resumable)} with what resuming needs, {_size(weights)} without; "
        f"{_size(least)} to {_size(at_most)} for {fewest} to {most} at once"
    )
    if free < missing:
        raise GovorError(
            f"The disk of {folder} has {_size(free)} free and this run's {figures}; free some space, take another "
            "--workspace, finetune.method=lora, a smaller model or fewer evaluation.keep_best."
        )
    tight = "warning: " if free < at_most - there else ""
    progress.note(f"check disk: {tight}{_size(free)} free; {figures}")


def _bytes_below(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _memory(family: Family, trained: int, device: str, progress: Progress) -> None:
    """Weights, gradients and AdamW's moments; activations come on top, and are halved when they do not fit."""
    if not device.startswith("cuda"):
        progress.note(f"check GPU memory: no GPU is used ({device})")
        return
    weights = sum(parameter.numel() * parameter.element_size() for parameter in family.module.parameters())
    need = weights + 3 * trained
    free, total = torch.cuda.mem_get_info(torch.device(device))
    figures = (
        f"{_size(need)} for weights, gradients and moments, before any audio; {_size(free)} of {_size(total)} free"
    )
    if need > total:
        raise GovorError(
            f"The GPU is too small: {figures}; take finetune.method=lora, fewer finetune.groups or a smaller model."
        )
    progress.note(f"check GPU memory: {'warning: ' if need > free else ''}{figures}")


def _size(count: float) -> str:
    return f"{count / _GIB:.2f} GiB" if count >= _GIB / 10 else f"{count / 2**20:.1f} MiB"
