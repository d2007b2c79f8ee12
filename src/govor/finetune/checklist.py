"""What is looked at before the first step: the data, the disk, the folder, the GPU's memory; every line with its figures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from govor.corpus.records import Clip
from govor.corpus.samples import clip_samples
from govor.errors import AudioError, GovorError, disk_errors
from govor.families.adapters import has_adapters
from govor.finetune import groups
from govor.finetune.checkpoints import WITH_OPTIMIZER, most_kept, weights_of
from govor.finetune.phases import Stage, even_steps
from govor.finetune.survey import SourceData
from govor.recipe import Recipe

_SAMPLED = 24
_GIB = 2**30


def check(
    recipe: Recipe,
    run: Path,
    family: Any,
    sources: Sequence[SourceData],
    stages: Sequence[Stage],
    device: str,
    resume: bool,
    say: Callable[[str], None],
) -> None:
    """Say what was found, line by line; nothing is changed.

    Raises:
        GovorError: with which the run cannot be done.
    """
    _manifests(sources, say)
    _audio(sources, say)
    _folder(run, say)
    weights, trained = _sizes(family, stages)
    _disk(recipe, run, len(even_steps(stages, recipe.evaluation.evaluations)), weights, trained, resume, say)
    _memory(family, trained, device, say)


def _manifests(sources: Sequence[SourceData], say: Callable[[str], None]) -> None:
    train, held_out = sum(len(s.train) for s in sources), sum(len(s.validation) for s in sources)
    hours = sum(s.seconds for s in sources) / 3600
    say(f"check manifests: {train} training clips of {hours:.2f} h and {held_out} validation clips, every row valid")


def _audio(sources: Sequence[SourceData], say: Callable[[str], None]) -> None:
    clips = [clip for source in sources for clip in _spread(source.train, -(-_SAMPLED // len(sources)))]
    failures = [failure for failure in map(_unreadable, clips) if failure]
    if failures and len(failures) == len(clips):
        raise GovorError(f"None of {len(clips)} sampled training clips can be read; the first: {failures[0]}")
    told = f"check audio: every file is there; {len(clips) - len(failures)} of {len(clips)} sampled clips decode"
    if failures:
        told += f" (warning: {failures[0]} Such clips are left out and listed in dropped.jsonl)"
    say(told)


def _spread(rows: Sequence[Clip], count: int) -> list[Clip]:
    count = min(count, len(rows))
    return [rows[index * len(rows) // count] for index in range(count)]


def _unreadable(clip: Clip) -> str | None:
    try:
        clip_samples(clip)
    except AudioError as error:
        return str(error)
    return None


def _folder(run: Path, say: Callable[[str], None]) -> None:
    place = _existing(run)
    with disk_errors(run, "the run"):
        probe = place / f".govor-{os.getpid()}"
        probe.touch()
        probe.unlink()
    say(f"check folder: {run} can be written")


def _existing(run: Path) -> Path:
    """The folder that is there already of those that lead to the run; through a link where it is one."""
    place = run
    while not place.is_dir():
        place = place.parent
    return place


def _sizes(family: Any, stages: Sequence[Stage]) -> tuple[int, int]:
    """Bytes of a checkpoint's weights, and of the parameters that train at once."""
    module, parts = family.module, family.parts()
    if has_adapters(module):
        parts = groups.adapter_parts(parts)
    named = dict(module.named_parameters())
    trained = max(
        sum(
            named[name].numel() * named[name].element_size()
            for group in groups.assign(parts, stage.rates)
            for name in group.parameters
        )
        for stage in stages
    )
    whole = sum(tensor.numel() * tensor.element_size() for tensor in weights_of(module).values())
    return (trained if has_adapters(module) else whole), trained


def _disk(
    recipe: Recipe, run: Path, evaluations: int, weights: int, trained: int, resume: bool, say: Callable[[str], None]
) -> None:
    """AdamW keeps two moments of each trained parameter; the newest checkpoints and the one being written hold them."""
    fewest, most = most_kept(recipe.evaluation, evaluations)
    moments = 2 * trained * min(WITH_OPTIMIZER + 1, evaluations)
    average = weights if recipe.evaluation.average else 0
    least, at_most = fewest * weights + moments, most * weights + moments + average
    place = _existing(run)
    there = _bytes_below(run / "checkpoints") if resume else 0
    # An old run that is replaced is deleted before the first step.
    free = shutil.disk_usage(place).free + (0 if resume or run.is_symlink() else _bytes_below(run))
    missing = max(least - there, weights + 2 * trained)
    figures = (
        f"checkpoints of {_size(weights + 2 * trained)} with what resuming needs, {_size(weights)} without; "
        f"{_size(least)} to {_size(at_most)} for {fewest} to {most} at once"
    )
    if free < missing:
        raise GovorError(
            f"The disk of {run} has {_size(free)} free and this run's {figures}; free some space, take another --workspace, "
            "finetune.method=lora, a smaller model or fewer evaluation.keep_best."
        )
    tight = "warning: " if free < at_most - there else ""
    say(f"check disk: {tight}{_size(free)} free; {figures}")


def _bytes_below(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _memory(family: Any, trained: int, device: str, say: Callable[[str], None]) -> None:
    """Weights, gradients and AdamW's moments; activations come on top, and are halved when they do not fit."""
    if not device.startswith("cuda"):
        say(f"check GPU memory: no GPU is used ({device})")
        return
    held = sum(parameter.numel() * parameter.element_size() for parameter in family.module.parameters())
    need = held + 3 * trained
    free, total = torch.cuda.mem_get_info(torch.device(device))
    figures = (
        f"{_size(need)} for weights, gradients and moments, before any audio; {_size(free)} of {_size(total)} free"
    )
    if need > total:
        raise GovorError(
            f"The GPU is too small: {figures}; take finetune.method=lora, fewer finetune.groups or a smaller model."
        )
    say(f"check GPU memory: {'warning: ' if need > free else ''}{figures}")


def _size(count: float) -> str:
    return f"{count / _GIB:.2f} GiB" if count >= _GIB / 10 else f"{count / 2**20:.1f} MiB"
