"""What kind of run it was, in words and numbers, read from its evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from govor.metrics.influence import fewest_that_turn
from govor.metrics.metric import LOSS, Metric
from govor.runs import Json, Run

Kind = Literal["not learning", "too few evaluations", "over-fit", "under-fit", "settled"]

# Shares of the loss. Under them a difference is the noise of a validation set of some hundred clips.
_TURNED = 0.02  # the loss at the end lies this much above its lowest: over-fit
_FALLING = 0.01  # the last quarter of the run still brought this much: under-fit
_LEARNED = 0.02  # less than this below the loss before training, or below chance, is nothing
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The verdict on a run.

    Attributes:
        kind: what it is called.
        sentences: what was seen, what it cost, what to do.
        checkpoint: which one to use.
        why: and the reason.
        lowest_loss_step: where the validation loss was lowest.
        figures: the numbers behind the sentences.
    """

    kind: Kind
    sentences: tuple[str, ...]
    checkpoint: str
    why: str
    lowest_loss_step: int | None
    figures: dict[str, float | int | None]

    def lines(self) -> list[str]:
        """For a terminal."""
        return [f"diagnosis: {self.kind}. {' '.join(self.sentences)}", f"use {self.checkpoint}: {self.why}"]


def diagnose(
    evaluations: Sequence[Json],
    metric: Metric,
    chance_loss: float | None,
    checkpoint: str,
    average: Json | None = None,
    clips: Sequence[Json] = (),
) -> Diagnosis:
    """Read the curve of a run.

    Args:
        evaluations: rows with `step` and the metrics, in order; step 0 is before training.
        metric: what the best checkpoint is best at.
        chance_loss: the loss of a model that knows nothing; None where nobody knows it.
        checkpoint: the one that ships.
        average: what `average.json` says, where the mean of some checkpoints ships.
        clips: rows with `step` and the `errors` of each clip, (how much is wrong, of how much).
    """
    before = next((row["loss"] for row in evaluations if row["step"] == 0), None)
    curve = [
        (int(row["step"]), float(row["loss"])) for row in evaluations if row["step"] and row.get("loss") is not None
    ]
    why = _why(evaluations, metric) if average is None else _why_average(average)
    if not curve:
        sentence = "The run ended before it was evaluated once."
        return Diagnosis("too few evaluations", (sentence,), checkpoint, why, None, {})
    lowest_step, lowest = min(curve, key=lambda point: point[1])
    last = curve[-1][1]
    figures: dict[str, float | int | None] = {
        "evaluations": len(curve),
        "loss_before": before,
        "loss_lowest": lowest,
        "loss_last": last,
        "loss_chance": None if chance_loss is None else round(chance_loss, 4),
    }
    kind, sentences = _judge(curve, before, chance_loss)
    hangs = None if average is not None else _hangs_on(evaluations, metric, clips)
    return Diagnosis(kind, tuple([*sentences, hangs] if hangs else sentences), checkpoint, why, lowest_step, figures)


def _judge(curve: list[tuple[int, float]], before: float | None, chance: float | None) -> tuple[Kind, list[str]]:
    """From the (step, loss) of each evaluation."""
    lowest_step, lowest = min(curve, key=lambda point: point[1])
    last_step, last = curve[-1]
    few = (
        [
            f"Only {len(curve)} evaluation{'s were' if len(curve) > 1 else ' was'} made, so the curve is hardly seen; "
            "evaluation.evaluations=20 shows it."
        ]
        if len(curve) < _FEWEST
        else []
    )
    if chance is not None and lowest > (1 - _LEARNED) * chance:
        return "not learning", [
            f"The validation loss {lowest:.3f} is that of chance ({chance:.3f}).",
            "Check a few examples with govor examples, and try a rate ten times higher or lower.",
        ]
    if before is not None and lowest > (1 - _LEARNED) * before:
        return "not learning", [
            f"The validation loss never fell below where it began ({before:.3f}; lowest {lowest:.3f}).",
            "Check a few examples with govor examples, and try a rate ten times higher or lower.",
        ]
    if few:
        return "too few evaluations", few
    if last > (1 + _TURNED) * lowest:
        return "over-fit", [
            f"The validation loss turned at step {lowest_step} of {last_step} and rose from {lowest:.3f} to {last:.3f} "
            f"({last / lowest - 1:+.1%}).",
            "More data, augmentation, dropout or fewer epochs would help.",
        ]
    earlier = [loss for step, loss in curve if step <= 0.75 * last_step]
    gain = 1 - lowest / min(earlier) if earlier else 0.0
    if lowest_step > 0.75 * last_step and gain > _FALLING:
        return "under-fit", [
            f"The validation loss was still falling: the last quarter of the run took {gain:.1%} off it.",
            "More epochs or a higher rate should bring more.",
        ]
    return "settled", [
        f"The validation loss settled at {lowest:.3f}; its lowest was at step {lowest_step} of {last_step}."
    ]


def write_diagnosis(run: Run, metric: Metric, chance_loss: float | None) -> Diagnosis:
    """Diagnose a run from its files, for the checkpoint that ships, and keep the verdict in it."""
    best = run.best_checkpoint().name
    average = run.read("average.json") if best.startswith("average") else None
    verdict = diagnose(run.metrics("eval"), metric, chance_loss, best, average, run.metrics("clips"))
    run.write("diagnosis.json", asdict(verdict))
    return verdict


def _why_average(average: Json) -> str:
    metric, single = average["metric"], average["best_single"]
    return (
        f"the mean of {len(average['members'])} checkpoints has a validation {metric} of {average['average'][metric]:.4f}, "
        f"the best single one ({single['checkpoint']}) {single[metric]:.4f}"
    )


def _why(evaluations: Sequence[Json], metric: Metric) -> str:
    name = metric.name
    measured = [row for row in evaluations if row["step"] and row.get(name) is not None]
    if not measured:
        return f"no evaluation measured {name}"
    best = min(measured, key=lambda row: metric.rank(row[name]))
    extreme = "lowest" if metric.better == "lower" else "highest"
    reason = f"its validation {name} {best[name]:.4f} is the {extreme} of {len(measured)}"
    by_loss = min((row for row in measured if row.get("loss") is not None), key=_loss_of, default=best)
    if metric != LOSS and by_loss["step"] != best["step"]:
        reason += f" (the loss was lowest at step {by_loss['step']}, where {name} was {by_loss[name]:.4f})"
    return reason


def _hangs_on(evaluations: Sequence[Json], metric: Metric, clips: Sequence[Json]) -> str | None:
    """The few clips without which another evaluation would be the best, where the metric is made of the clips' errors."""
    values = {row["step"]: row.get(metric.name) for row in evaluations}
    by_step = {row["step"]: row["errors"] for row in clips if _adds_up(row["errors"], values.get(row["step"]))}
    if len(by_step) < 2:
        return None
    best = min(by_step, key=lambda step: (values[step], step))
    deciding: tuple[int, int, list[str]] | None = None
    for step, errors in by_step.items():
        own = by_step[best]
        names = sorted(own.keys() & errors.keys())
        counts = [(own[name][0], errors[name][0], own[name][1]) for name in names]
        places = fewest_that_turn(*zip(*counts, strict=True)) if counts and step != best else None
        if places and (deciding is None or len(places) < deciding[0]):
            deciding = len(places), step, [names[place] for place in places]
    if deciding is None:
        return None
    count, step, names = deciding
    hang, them = ("clip", "it") if count == 1 else ("clips", "them")
    return (
        f"That step {best} is the best hangs on {count} of {len(by_step[best])} validation {hang} ({', '.join(names)}): "
        f"without {them}, step {step} would be."
    )


def _adds_up(errors: Json, value: float | None) -> bool:
    """Whether a figure is the errors of all clips over what they are of."""
    length = sum(own[1] for own in errors.values())
    return bool(length) and value is not None and abs(sum(own[0] for own in errors.values()) / length - value) < 1e-5


def _loss_of(row: Json) -> float:
    return float(row["loss"])
