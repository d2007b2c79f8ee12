"""Is a run good enough to be used? The gates of its recipe against what was measured; nothing unmeasured passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from govor.config import apply_overrides, parse, read_yaml
from govor.corpus.manifests import fingerprint
from govor.errors import GovorError
from govor.families.registry import settings_of
from govor.families.settings import Gates
from govor.jsons import read_json, write_json
from govor.machine import now
from govor.measure.suites import suites
from govor.metrics.intervals import FEWEST_CLUSTERS
from govor.metrics.text import NAME, NORMALISERS
from govor.recipe import acceptance_of, family_in
from govor.runs import Workspace

# What a verdict says it was measured on where the recipe names no suite.
OWN_TEST_SET = "the run's test set"
# Gates of which more is better.
_AT_LEAST = frozenset({"timestamp_coverage"})


def judge(run: Path, gates: Gates | None = None, stage: str | None = None) -> dict[str, Any]:
    """`accepted` with one entry per gate: limit, measured value, whether it passed, and why not.

    Args:
        gates: in place of those in the run's recipe.
        stage: whose gates of the recipe are asked.

    Raises:
        GovorError: the run has no recipe, no such stage, or no gate is stated.
    """
    recipe_file = run / "recipe.yaml"
    if not recipe_file.exists():
        raise GovorError(f"{run} holds no recipe.yaml, so it states no gates; a run's folder was wanted.")
    recipe = read_yaml(recipe_file)
    wanted = gates
    if wanted is None:
        asked = parse(acceptance_of(family_in(recipe)), recipe.get("acceptance") or {}, str(recipe_file))
        stage, wanted = asked.at(stage)
    if not wanted.gates():
        raise GovorError(
            f"The recipe of {run.name} states no gates; state some under `acceptance:`, or here, for example --set wer=0.3."
        )
    context = wanted.context or recipe.get("examples", {}).get("context", "speech")
    entries = []
    for name, limit in wanted.gates().items():
        value, evidence, *caution = _measured(name, run.name, wanted.measured_on, context)
        passed = value is not None and (value >= limit if name in _AT_LEAST else value <= limit)
        sign = "at least" if name in _AT_LEAST else "at most"
        entries.append(
            {
                "gate": name,
                "limit": limit,
                "measured": value,
                "passed": passed,
                "evidence": evidence,
                "reason": f"not measured; {evidence}"
                if value is None
                else "; ".join([f"{value:.4g}, and {sign} {limit:g} was wanted", *caution]),
            }
        )
    return {
        "accepted": all(entry["passed"] for entry in entries),
        "judged": now(),
        "stage": stage,
        "measured_on": wanted.measured_on or OWN_TEST_SET,
        "context": context,
        "gates": entries,
    }


def gates_given(run: Path, overrides: list[str]) -> Gates:
    """Gates as they are given with --set, in place of those of the run's recipe."""
    file = run / "recipe.yaml"
    family = family_in(read_yaml(file) if file.exists() else {})
    return parse(settings_of(family).gates, apply_overrides({}, overrides), "--set")


def keep(run: str, verdict: dict[str, Any]) -> Path:
    """Put the verdict into the run's headline file; returns the file."""
    file = Path("manifests") / f"eval_{run}.json"
    headline = read_json(file) if file.exists() else {"run": run, "created": now(), "contexts": {}}
    write_json(file, {**headline, "accepted": verdict["accepted"], "acceptance": verdict})
    return file


def _measured(gate: str, run: str, on: str | None, context: str) -> tuple[float | None, str, *tuple[str, ...]]:
    """The value, the file it stands in, and what makes it doubtful; else how to measure it."""
    if gate == "hallucination_rate":
        file = Workspace().evals / f"{run}__hallucination__{context}.json"
        if not file.exists():
            return None, f"run: govor evaluate {run} --hallucination"
        return _read(file).get("hallucination_rate"), file.as_posix()
    if gate.startswith("timestamp_"):
        return _of_timestamps(gate, run, on, context)
    if on is not None:
        return _of_suite(gate, run, on, context)
    file, after = _own_test(run, context)
    if after is None:
        return None, f"run: govor evaluate {run} --manifest TEST.jsonl, then govor compare BEFORE AFTER --run {run}"
    return _judging(after, gate, file, f"govor compare BEFORE AFTER --run {run}")


def _own_test(run: str, context: str) -> tuple[Path, dict[str, Any] | None]:
    """The headline file, and the scoring of the run's own test set in it."""
    file = Path("manifests") / f"eval_{run}.json"
    contexts = _read(file).get("contexts", {})
    return file, contexts[context]["after"] if context in contexts else None


def _of_timestamps(gate: str, run: str, on: str | None, context: str) -> tuple[float | None, str]:
    """Of the clips that the rates are of, all of them, and no others."""
    after = None if on else _own_test(run, context)[1]
    manifest = Path("manifests") / "suites" / f"{on}.jsonl"
    if on:
        wanted = fingerprint(manifest)["sha256"] if manifest.exists() else None
    else:
        wanted = after.get("manifest", {}).get("sha256") if after else None
    for file in sorted(Workspace().evals.glob(f"{run}__timestamps__*__{context}.json")):
        found = _read(file)
        if wanted and found.get("max_samples") is None and found.get("manifest", {}).get("sha256") == wanted:
            return found["all"][gate.removeprefix("timestamp_")], file.as_posix()
    of = manifest.as_posix() if on else "TEST.jsonl"
    return None, f"run: govor evaluate {run} --manifest {of} --timestamps --context {context}"


def _of_suite(gate: str, run: str, on: str, context: str) -> tuple[float | None, str, *tuple[str, ...]]:
    suite, name = on.split("/")
    file = Workspace().evals / f"{run}__suite-{suite}.json"
    found = _read(file).get("sets", {}).get(name, {}).get("contexts", {}).get(context)
    if found is None:
        own = suite if suite in suites() else f"{suite}.yaml"
        return None, f"run: govor evaluate {run} --suite {own} --context {context}"
    if found.get("failed"):
        return None, f"{found['failed']} clips could not be read; mend them, then score the suite again"
    scored = {**found, **found["published"]} if gate.startswith("wer") else found
    return _judging(scored, gate, file, f"govor evaluate {run} --suite {suite} --context {context}")


def _judging(
    summary: dict[str, Any], gate: str, file: Path, command: str
) -> tuple[float | None, str, *tuple[str, ...]]:
    """A rate that is counted as today; said is where so few clips make it that chance alone could."""
    if summary.get("normaliser", NAME) not in NORMALISERS:
        return None, f"it was counted with {summary['normaliser']}, which has changed; run: {command}"
    clusters = summary.get("interval", {}).get("clusters", summary.get("clips", FEWEST_CLUSTERS))
    few = [f"{clusters} clip(s) are too few to tell it from chance"] if clusters < FEWEST_CLUSTERS else []
    if few and gate == "wer_upper":
        return None, f"{clusters} clip(s) give no interval; score {FEWEST_CLUSTERS} or more"
    return _rate(summary, gate), file.as_posix(), *few


def _read(file: Path) -> dict[str, Any]:
    """A result, or nothing where there is none."""
    found = read_json(file) if file.exists() else {}
    if not isinstance(found, dict):
        raise GovorError(f"{file} is no result of `govor evaluate`; delete it.")
    return found


def _rate(summary: dict[str, Any], gate: str) -> float | None:
    if gate == "wer_upper":
        spread = summary["wer_interval"]
        return spread[1] if spread else None
    value: float | None = summary[gate]
    return value
