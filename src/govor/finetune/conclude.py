"""The end of a run: averaging, the diagnosis, and the record of everything that it was made with."""

from __future__ import annotations

from statistics import median

from govor.finetune import resume
from govor.finetune.average import Judge
from govor.finetune.data import augment_sha256
from govor.finetune.diagnose import write_diagnosis
from govor.finetune.prepare import about_source
from govor.finetune.session import Session
from govor.finetune.survey import all_languages, all_licenses
from govor.jsons import read_json
from govor.machine import environment, memory_mb, now
from govor.runs import Json, Run, RunRecord, read_state


def conclude(session: Session, seconds: float) -> Json:
    """Average, if the recipe asks for it, say what kind of run it was, and write `metrics.json` and the record.

    Args:
        seconds: that the steps took.

    Returns what `metrics.json` says.
    """
    run, trainer, progress = session.run, session.trainer, session.process.progress
    count = session.recipe.evaluation.average
    if count:
        number_format, accelerator = trainer.autocast(), session.accelerator
        Judge(run, session.metric, session.validation, number_format, accelerator, progress).average(count)
    if session.main:
        for line in write_diagnosis(run, session.metric, trainer.family.chance_loss).lines():
            progress.note(line)
    metrics = _metrics(session, seconds)
    if session.main:
        run.write("metrics.json", metrics)
        run.write_record(_record(session, metrics))
    return metrics


def _metrics(session: Session, seconds: float) -> Json:
    """What the run's own metric names best, and what it cost."""
    run = session.run
    best = run.best_checkpoint()
    state = read_state(best)
    evaluations = run.metrics("eval")
    metrics = {
        "best_checkpoint": best.name,
        "best_step": state["step"],
        "metric": session.metric.name,
        "metrics": state["metrics"],
        "total_steps": session.trainer.total_steps,
        "steps_done": evaluations[-1]["step"] if evaluations else 0,
        "training_seconds": seconds,
        **_speed(run),
        "peak_memory_mb": memory_mb(),
        "unreadable_clips": len(session.unreadable),
    }
    return {**metrics, "average": run.read("average.json")} if run.holds("average.json") else metrics


def _speed(run: Run) -> Json:
    """Of the median step; empty where none was trained."""
    rows = [row for row in run.metrics("train") if "mfu" in row]
    names = ("audio_hours_per_device_hour", "mfu")
    return {name: round(median(row[name] for row in rows), 4) for name in names} if rows else {}


def _record(session: Session, metrics: Json) -> RunRecord:
    workspace, recipe, ready, trainer = session.workspace, session.recipe, session.ready, session.trainer
    sources = recipe.data.by_name()
    proofs = {name: workspace.path(source.split) / "proof.json" for name, source in sources.items()}
    return RunRecord(
        run=recipe.name,
        family=recipe.family,
        base_model=recipe.base_model,
        base_sha256=ready.base_sha256,
        created=now(),
        languages=all_languages(ready.sources),
        language_token=recipe.examples.language,
        licenses=dict(all_licenses(ready.sources)),
        data=session.data,
        augment_sha256=augment_sha256(workspace, recipe),
        split={name: read_json(proof) for name, proof in proofs.items() if proof.exists()},
        sources={source.name: about_source(source) for source in ready.sources},
        recipe=recipe.model_dump(mode="json"),
        seed=recipe.finetune.seed,
        phases=session.run.read("phases.json") if session.run.holds("phases.json") else {},
        precision=trainer.precision,
        devices=trainer.accelerator.num_processes,
        memory_halvings=trainer.halvings,
        resumed=resume.noted(session.run),
        result=metrics,
        environment=environment(),
    )
