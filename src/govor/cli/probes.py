"""evaluate --hallucination, --timestamps: what a scoring of texts does not show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from govor.cli import console
from govor.cli.models import check_model
from govor.cli.options import workspace

if TYPE_CHECKING:  # a command's help must not wait for them
    from govor.measure.evaluate import EvalOptions


def run_hallucination(model: str, options: EvalOptions, as_json: bool) -> None:
    """What a model writes for silence, noise and music, in each context."""
    check_model(model, options.engine, options.device)
    from govor.measure.hallucination import score_hallucination, sentence  # only now: it imports torch

    filed = score_hallucination(workspace(), model, options, console)
    results = [one.result for one in filed]
    console.result("\n".join(map(sentence, results)), results, as_json)
    console.made(", ".join(workspace().as_given(one.file) for one in filed))


def run_timestamps(model: str, manifest: Path, max_samples: int | None, options: EvalOptions, as_json: bool) -> None:
    """How well a model times words, on splices of the manifest's clips; in the context of its record if none is given."""
    from govor.measure.scoring import ClipSet

    clips = ClipSet.read(workspace(), manifest, max_samples)
    check_model(model, device=options.device)
    from govor.measure.lines import offset_line, offset_rows
    from govor.measure.timestamps import score_timestamps  # only now: it imports torch

    filed = score_timestamps(workspace(), model, clips, options, max_samples, console)
    results = [one.result for one in filed]
    console.result("\n".join(map(offset_line, results)), results if len(results) > 1 else results[0], as_json)
    for result in results:
        title = f"{result['context']}: offset from the truth in seconds, share of words in their own line"
        console.table(title, offset_rows(result))
    console.made(", ".join(workspace().as_given(one.file) for one in filed))
