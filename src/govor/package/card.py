"""The model card: what it was trained on, under which licences, what it scored before and after."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from govor.corpus.licenses import CUSTOM, canonical
from govor.families.registry import settings_of, task_of
from govor.families.task import Task
from govor.metrics.metric import LOSS, Metric
from govor.runs import Json, Run, RunRecord, read_state

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# Our identifiers that the Hub calls otherwise than by the lower-case letters of the same, and those that it does not know.
_ON_THE_HUB = {"ODC-BY-1.0": "odc-by", "ODbL-1.0": "odbl", "GPL-2.0-only": "gpl-2.0", "GPL-3.0-only": "gpl-3.0"}
_NOT_ON_THE_HUB = ("own", "public-domain", "ivrit.ai", "research-only", "CC-BY-SA-2.0")


def model_card(run: Run, checkpoint: Path, usage: Sequence[str]) -> str:
    """Markdown with the metadata block that model hubs read.

    Args:
        checkpoint: the one that is packaged.
        usage: how to use the package, as Markdown.
    """
    record, scores = run.record(), _scores(run)
    task = task_of(record.family)
    base, languages = _model_name(record.base_model, run), record.languages
    examples = record.recipe["examples"]
    unscored = ["Not scored yet: `govor evaluate` and `govor compare` fill this table."]
    parts = (f"- {part}: {row['rows']} clips, sha256 `{row['sha256'][:16]}…`" for part, row in record.data.items())
    licenses = ", ".join(f"{name} ({count})" for name, count in record.licenses.items())
    token = record.language_token
    lines = [
        "---",
        _metadata(run, record, task, scores).to_yaml().rstrip(),  # quotes what YAML would misread: no
        "---",
        "",
        f"# {run.name}",
        "",
        f"{base}, fine-tuned with govor {record.environment['govor']} for {', '.join(languages)}.",
        "",
        "## Scores",
        "",
        *(_score_table(scores, task.metrics[0]) if scores else unscored),
        "",
        "## Data",
        "",
        *parts,
        f"- licences of the training clips: {licenses}",
        "",
        "## Training",
        "",
        *_how(record, checkpoint),
        *([f"- one language token for all clips: {token}"] if token else []),
        *([_context(examples)] if len(task.contexts) > 1 else []),
        f"- {_which(record.result, checkpoint, task)}",
        "",
        "## Use",
        "",
        *usage,
        "",
        "`run_manifest.json` holds every setting, version and fingerprint of the run.",
        "",
    ]
    return "\n".join(lines)


def _scores(run: Run) -> dict[str, Json]:
    """Before and after by audio context; none where the run was accepted or refused, and never compared."""
    headline: Json = run.headline() or {}
    contexts: dict[str, Json] = headline.get("contexts", {})
    return contexts


def _metadata(run: Run, record: RunRecord, task: Task, scores: Mapping[str, Json]) -> ModelCardData:
    """The block that model hubs read."""
    return ModelCardData(
        library_name=settings_of(record.family).library,
        pipeline_tag=task.name,
        base_model=_model_name(record.base_model, run),
        language=record.languages,
        **_license(record.licenses),
        datasets=list(dict.fromkeys(part.rsplit("/", 1)[0] for part in record.data)),
        metrics=[metric.name for metric in task.metrics],
        tags=["govor", record.family],
        model_name=run.name,
        eval_results=_results(scores, task) if scores else None,
    )


def _context(examples: Json) -> str:
    """What it heard of each clip, of a task that can be given one in several ways."""
    shares: Json | None = examples.get("contexts")
    if shares:
        shown = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share)
        return f"- audio context: {examples['context']}, of the examples {shown}"
    return f"- audio context: {examples['context']}, full-length share {examples['full_length_share']:g}"


def _how(record: RunRecord, checkpoint: Path) -> list[str]:
    """Steps, rates and method, as far as this checkpoint saw them."""
    settings = record.recipe["finetune"]
    step = read_state(checkpoint)["step"]
    lines = [
        f"- {step} of {record.result['total_steps']} steps of {settings['clips_per_step']} clips, {record.precision}, seed "
        f"{settings['seed']}"
    ]
    for name, phase in record.phases.items():
        if phase["steps"][0] < step:
            rates = ", ".join(f"{row['group']} {row['lr']:g}" for row in phase["groups"] if row["lr"])
            lines.append(
                f"- phase {name}: to step {min(phase['steps'][1], step)}, peak learning rates {rates}, {phase['schedule']}"
            )
    if settings["method"] == "lora":
        lora = settings["lora"]
        lines.append(f"- adapters of rank {lora['rank']}, alpha {lora['alpha']:g}, merged")
    return lines


def _which(result: Json, checkpoint: Path, task: Task) -> str:
    if checkpoint.name.startswith("average"):
        members = ", ".join(
            f"{m['checkpoint']} ({m['weight']:.3f})" for m in result.get("average", {}).get("members", [])
        )
        return f"the mean of several checkpoints was taken: {members}"
    if checkpoint.name == result["best_checkpoint"]:
        better = {metric.name: metric.better for metric in task.metrics}.get(result["metric"], LOSS.better)
        first = "lowest" if better == "lower" else "highest"
        return f"the checkpoint with the {first} validation {result['metric']} was taken ({checkpoint.name})"
    return f"the checkpoint {checkpoint.name} was taken by hand"


def _model_name(source: str, run: Run) -> str:
    """The base model as hubs name models: its id, or the last part of a local path (the rest is nobody's business)."""
    path = run.workspace.path(source)
    if path.exists() or not _HUB_ID.fullmatch(source):
        return path.stem if path.is_file() else path.name
    return source


def _license(counts: dict[str, int]) -> Json:
    """The licence of all training clips where there is one and the Hub knows it, else "other" with their names."""
    names = list(dict.fromkeys(canonical(name) or name for name in counts))
    alone = names[0] if len(names) == 1 else None
    if alone and not alone.startswith(CUSTOM) and alone not in _NOT_ON_THE_HUB and canonical(alone):
        return {"license": _ON_THE_HUB.get(alone, alone.lower())}
    return {"license": "other", "license_name": " + ".join(name.removeprefix(CUSTOM) for name in names) or "unknown"}


def _results(scores: Mapping[str, Json], task: Task) -> list[EvalResult]:
    """The scores after training, as rates (1 is 100 %): padded and unpadded audio are results of their own."""
    results = []
    for context, item in scores.items():
        after = item["after"]
        for metric in task.metrics:
            if after.get(metric.name) is not None:
                results.append(
                    EvalResult(
                        task_type=task.name,
                        dataset_type=after["set"],
                        dataset_name=after["set"],
                        dataset_args={"clips": after["clips"]},
                        metric_type=metric.name,
                        metric_value=after[metric.name],
                        metric_name=f"{metric.label} ({context} audio)",
                    )
                )
    return results


def _score_table(scores: Mapping[str, Json], metric: Metric) -> list[str]:
    title = metric.label
    rows = [f"| audio context | {title} before | {title} after | change | p |", "|---|---|---|---|---|"]
    for context, item in scores.items():
        compared = item["comparison"][metric.name]
        p, change = compared["p_value"], compared["relative_change"]
        shown = "n/a" if change is None else f"{change:+.1%}"
        before, after = (_rate(item[side], metric) for side in ("before", "after"))
        rows.append(f"| {context} | {before} | {after} | {shown} | {'n/a' if p is None else f'{p:.4f}'} |")
    scored = next(iter(scores.values()))["after"]
    note = scored["interval"]["note"]
    return [
        *rows,
        "",
        f"Test set: {scored['clips']} clips, {scored['audio_seconds'] / 60:.1f} min; 95 % intervals, {note}.",
        *(["", f"{scored['about_words']}."] if scored.get("about_words") else []),
    ]


def _rate(summary: Json, metric: Metric) -> str:
    value, interval = summary[metric.name], summary[f"{metric.name}_interval"]
    if value is None:
        return "n/a"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
