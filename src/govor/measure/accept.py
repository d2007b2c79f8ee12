"""Is a run good enough to be used? The gates of its recipe against what was measured; nothing unmeasured passes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from govor.config import apply_overrides, parse, read_yaml
from govor.corpus.manifests import fingerprint
from govor.errors import GovorError, nearest
from govor.families.registry import settings_of, task_named, task_of, transcribes
from govor.families.settings import Gates
from govor.families.task import Task
from govor.files import exists
from govor.machine import now
from govor.measure.suites import suite_manifest, suites
from govor.metrics.intervals import FEWEST_CLUSTERS
from govor.metrics.metric import Metric
from govor.metrics.text import NAME, NORMALISERS
from govor.recipe import acceptance_of, family_in
from govor.runs import Json, Run, read_scoring

# What a verdict says it was measured on where the recipe names no suite.
OWN_TEST_SET = "the run's test set"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The value of a gate, the file that it stands in and what makes it doubtful; without a value, how to measure it."""

    value: float | None
    where: str
    doubt: str | None = None


def accept(run: Run, gates: Gates | None = None, stage: str | None = None) -> tuple[Json, Path]:
    """Judge a run and put the verdict into its headline file; returns both. See `judge`.

    The verdict that stood there moves to `earlier_verdicts`, with the scores that it judged.
    """
    verdict = judge(run, gates, stage)
    headline: Json = run.headline() or {"run": run.name, "created": now(), "contexts": {}}
    earlier = list(headline.get("earlier_verdicts", []))
    if "acceptance" in headline:
        earlier.append(with_scores(headline["acceptance"], headline["contexts"]))
    rest = {key: value for key, value in headline.items() if key != "earlier_verdicts"}
    filed = {**rest, "accepted": verdict["accepted"], "acceptance": verdict}
    return verdict, run.write_headline({**filed, "earlier_verdicts": earlier} if earlier else filed)


def with_scores(verdict: Json, contexts: Mapping[str, Json]) -> Json:
    """A verdict as it stands among the earlier ones: with the scores that it judged."""
    return {**verdict, "scores": judged_scores(verdict, contexts)}


def judged_scores(verdict: Json, contexts: Mapping[str, Json]) -> Json | None:
    """The run's own scores that a verdict is of: which clips, and every metric; None where it is of a suite's set."""
    if verdict.get("measured_on") != OWN_TEST_SET:
        return None
    after = contexts.get(str(verdict.get("context")), {}).get("after", {})
    task: Task = task_named(after.get("task"), "the headline")
    keys = [key for metric in task.metrics for key in (metric.name, f"{metric.name}_interval")]
    return {key: after.get(key) for key in ("manifest", *keys)}


def judge(run: Run, gates: Gates | None = None, stage: str | None = None) -> Json:
    """`accepted` with one entry per gate: limit, measured value, whether it passed, and why not.

    Args:
        gates: in place of those in the run's recipe.
        stage: whose gates of the recipe are asked.

    Raises:
        GovorError: the run has no recipe, no such stage, or no gate is stated.
    """
    recipe_file = run.folder / "recipe.yaml"
    if not exists(recipe_file):
        raise GovorError(f"{run.folder} holds no recipe.yaml, so it states no gates; a run's folder was wanted.")
    recipe = read_yaml(recipe_file)
    wanted = gates
    if wanted is None:
        acceptance = parse(acceptance_of(family_in(recipe)), recipe.get("acceptance") or {}, str(recipe_file))
        stage, wanted = acceptance.at(stage)
    if not wanted.gates():
        raise GovorError(
            f"The recipe of {run.name} states no gates; state some under `acceptance:`, or here, for example --set wer=0.3."
        )
    family = family_in(recipe)
    task = task_of(family)
    if wanted.measured_on is not None and not transcribes(family):
        raise GovorError(f"{run.name} is for {task.name}, and suites are of speech recognition; leave measured_on out.")
    context = wanted.context or recipe.get("examples", {}).get("context", "speech")
    judged_on = _Judged(run, task, wanted.measured_on, context)
    entries = [_entry(_gate(task, name), limit, judged_on.evidence(name)) for name, limit in wanted.gates().items()]
    return {
        "accepted": all(entry["passed"] for entry in entries),
        "judged": now(),
        "stage": stage,
        "measured_on": wanted.measured_on or OWN_TEST_SET,
        "context": context,
        "gates": entries,
    }


def gates_given(run: Run, overrides: list[str]) -> Gates:
    """Gates as they are given with --set, in place of those of the run's recipe."""
    file = run.folder / "recipe.yaml"
    family = family_in(read_yaml(file) if exists(file) else {})
    return parse(settings_of(family).gates, apply_overrides({}, overrides), "--set")


def _gate(task: Task, name: str) -> Metric:
    """A gate of the task, with its direction."""
    gates = {gate.name: gate for gate in task.gates}
    if name not in gates:
        raise GovorError(f"There is no gate '{name}' of {task.name}; {nearest(name, gates)}")
    return gates[name]


def _entry(gate: Metric, limit: float, evidence: Evidence) -> Json:
    value, passed = evidence.value, False
    reason = f"not measured; {evidence.where}"
    if value is not None:
        passed = gate.passes(value, limit)
        sign = "at most" if gate.better == "lower" else "at least"
        doubt = f"; {evidence.doubt}" if evidence.doubt else ""
        reason = f"{value:.4g}, and {sign} {limit:g} was wanted{doubt}"
    about = {"gate": gate.name, "limit": limit, "measured": value}
    return {**about, "passed": passed, "evidence": evidence.where, "reason": reason}


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a run is judged on: a set SUITE/SET, or its own test set; in one audio context."""

    run: Run
    task: Task
    on: str | None
    context: str

    def evidence(self, gate: str) -> Evidence:
        """What was measured for a gate."""
        measurement, figure = self.task.evidence_for(gate)
        if measurement == "hallucination":
            return self._of_hallucination(figure)
        if measurement == "timestamps":
            return self._of_timestamps(figure)
        return self._of_own_test(figure) if self.on is None else self._of_suite(figure, *self.on.split("/"))

    def _of_hallucination(self, figure: str) -> Evidence:
        file = self.run.workspace.scoring(self.run.name, "hallucination", self.context)
        if not exists(file):
            return Evidence(None, f"run: {self._evaluate()} --hallucination")
        return Evidence(read_scoring(file).get(figure), self._shown(file))

    def _of_timestamps(self, figure: str) -> Evidence:
        """Of the clips that the rates are of, all of them, and no others."""
        workspace, name = self.run.workspace, self.run.name
        manifest = suite_manifest(workspace, *self.on.split("/")) if self.on else None
        if manifest is not None:
            wanted = fingerprint(manifest)["sha256"] if exists(manifest) else None
        else:
            wanted = _sha256(self._own_test() or {})
        for file in workspace.scorings(name, "timestamps", "*", self.context):
            timed = read_scoring(file)
            if wanted and timed.get("max_samples") is None and _sha256(timed) == wanted:
                return Evidence(timed["all"][figure], self._shown(file))
        of = self._shown(manifest) if manifest is not None else "TEST.jsonl"
        return Evidence(None, f"run: {self._evaluate()} --manifest {of} --timestamps --context {self.context}")

    def _own_test(self) -> Json | None:
        """The scoring of the run's own test set in its headline file."""
        headline: Json = self.run.headline() or {}
        contexts: Json = headline.get("contexts", {})
        return contexts[self.context]["after"] if self.context in contexts else None

    def _of_own_test(self, gate: str) -> Evidence:
        name, after = self.run.name, self._own_test()
        if after is None:
            scored = f"{self._evaluate()} --manifest TEST.jsonl"
            return Evidence(None, f"run: {scored}, then govor compare BEFORE AFTER --run {name}")
        file = self.run.workspace.headline(name)
        return self._of_scoring(after, gate, file, f"govor compare BEFORE AFTER --run {name}")

    def _of_suite(self, gate: str, suite: str, label: str) -> Evidence:
        file = self.run.workspace.scoring(self.run.name, f"suite-{suite}")
        result = read_scoring(file) if exists(file) else {}
        scored: Json | None = result.get("sets", {}).get(label, {}).get("contexts", {}).get(self.context)
        command = f"{self._evaluate()} --suite"
        if scored is None:
            own = suite if suite in suites() else f"{suite}.yaml"
            return Evidence(None, f"run: {command} {own} --context {self.context}")
        if scored.get("failed"):
            return Evidence(None, f"{scored['failed']} clips could not be read; mend them, then score the suite again")
        if gate.partition("_")[0] in scored["published"]:
            scored = {**scored, **scored["published"]}
        return self._of_scoring(scored, gate, file, f"{command} {suite} --context {self.context}")

    def _of_scoring(self, summary: Json, gate: str, file: Path, command: str) -> Evidence:
        """A rate that is counted as today; said is where so few clips make it that chance alone could."""
        if summary.get("normaliser", NAME) not in NORMALISERS:
            return Evidence(None, f"it was counted with {summary['normaliser']}, which has changed; run: {command}")
        clusters = summary.get("interval", {}).get("clusters", summary.get("clips", FEWEST_CLUSTERS))
        few = clusters < FEWEST_CLUSTERS
        name, _, bound = gate.rpartition("_")
        if bound in ("upper", "lower") and f"{name}_interval" in summary:
            if few:
                return Evidence(None, f"{clusters} clip(s) give no interval; score {FEWEST_CLUSTERS} or more")
            spread = summary[f"{name}_interval"]
            return Evidence(spread[bound == "upper"] if spread else None, self._shown(file))
        doubt = f"{clusters} clip(s) are too few to tell it from chance" if few else None
        return Evidence(summary[gate], self._shown(file), doubt)

    def _evaluate(self) -> str:
        """The command that scores the run, which knows runs by their folders alone."""
        return f"govor evaluate {shlex.quote(self._shown(self.run.folder))}"

    def _shown(self, file: Path) -> str:
        return self.run.workspace.as_given(file)


def _sha256(summary: Json) -> str | None:
    """The hash of the manifest that a result is of."""
    sha256: str | None = summary.get("manifest", {}).get("sha256")
    return sha256
