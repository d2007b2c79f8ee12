"""A suite of known sets: fetched, compared with the training data, scored, laid beside published figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from govor.cli import console
from govor.cli.models import check_model
from govor.cli.options import workspace
from govor.cli.summary import exit_if

if TYPE_CHECKING:  # a command's help must not wait for them
    from govor.measure.evaluate import EvalOptions
    from govor.measure.suite_scores import SuiteOptions


def run_suite(model: str, wanted: SuiteOptions, options: EvalOptions, as_json: bool) -> None:
    """Score every set that can be had; exit 1 where some could not."""
    from govor.measure.lines import failed_lines, suite_lines
    from govor.measure.suite_scores import score_suite
    from govor.measure.suites import find_suite
    from govor.metrics.text import NAME

    find_suite(workspace(), wanted.name)
    check_model(model, options.engine, options.device)
    scores = score_suite(workspace(), model, wanted, options, console)
    suite = scores.suite
    console.result(suite_lines(suite.title, scores.result), scores.result, as_json)
    if suite.published_from:
        console.note(
            f"published figures: {suite.published_from}; the {suite.normaliser} normaliser is theirs, {NAME} ours"
        )
    console.made(workspace().as_given(scores.file), f"govor report {Path(model).name}")
    failed = failed_lines(scores.summaries)
    for line in failed:
        console.note(line)
    exit_if(bool(failed) or bool(scores.result["not_run"]))
