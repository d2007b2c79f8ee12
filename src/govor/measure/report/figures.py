"""The learning curves of a report."""

from __future__ import annotations

from collections.abc import Sequence

from govor.metrics.metric import Metric
from govor.runs import Json


def curves(train: Sequence[Json], evals: Sequence[Json], metrics: Sequence[Metric]) -> list[Json]:
    """Learning curves as SVG paths in a 640×220 box, from the rows of each kind of a run's metrics."""
    losses = {
        "training": _smooth([(row["step"], row["loss"]) for row in train]),
        "validation": [(row["step"], row["loss"]) for row in evals],
    }
    rates = {
        metric.name: [(row["step"], row[metric.name]) for row in evals if row.get(metric.name) is not None]
        for metric in metrics
    }
    rate_title = "Error rate on the validation sample" if metrics[0].better == "lower" else "On the validation sample"
    charts = [("Loss per token", losses), (rate_title, rates)]
    return [_chart(title, lines) for title, lines in charts if any(lines.values())]


def _smooth(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """A running mean over a twentieth of the run; single steps are noise."""
    width = max(len(points) // 20, 1)
    return [
        (points[i][0], sum(value for _, value in points[max(0, i - width + 1) : i + 1]) / min(width, i + 1))
        for i in range(len(points))
    ]


def _chart(title: str, lines: dict[str, list[tuple[int, float]]]) -> Json:
    points = [point for line in lines.values() for point in line]
    last, top = max(step for step, _ in points) or 1, max(value for _, value in points) * 1.05 or 1.0

    def place(step: int, value: float) -> str:
        return f"{50 + 580 * step / last:.1f},{190 - 175 * value / top:.1f}"

    return {
        "title": title,
        "ticks": [(f"{190 - 175 * share:.1f}", f"{top * share:.2f}") for share in (0, 0.25, 0.5, 0.75, 1)],
        "last": last,
        "lines": [
            {
                "name": name,
                "points": " ".join(place(*point) for point in line),
                "dots": [(*place(*point).split(","), point[0], f"{point[1]:.3f}") for point in line]
                if len(line) < 60
                else [],
            }
            for name, line in lines.items()
            if line
        ],
    }
