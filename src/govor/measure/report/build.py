"""`reports/<run>/index.html`: scores, learning curve, and every clip with its audio and a word diff."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined

from govor.audio import SAMPLE_RATE, decode
from govor.errors import AudioError, GovorError
from govor.files import atomic_folder, read_json
from govor.measure.compare import format_p
from govor.measure.evaluate import ClipRow, by_id, read_eval
from govor.measure.wer import Counts, word_diff

# What browsers play as it is; anything else, and parts of longer files, are written as FLAC.
_PLAYABLE = frozenset({".wav", ".mp3", ".ogg", ".oga", ".opus", ".flac", ".m4a", ".webm", ".mp4"})


def build_report(run: Path, target: Path, overwrite: bool) -> Path:
    """Write the report of a run from its headline file and metrics; returns the page's path.

    Raises:
        GovorError: the run has not been scored.
    """
    headline_file = Path("manifests") / f"eval_{run.name}.json"
    if not headline_file.exists():
        raise GovorError(
            f"{run.name} has not been scored before and after; run: govor compare EVAL_BEFORE EVAL_AFTER --run {run.name}"
        )
    headline = read_json(headline_file)
    with atomic_folder(target, "the report", replace=overwrite) as folder:
        page = _render(run, headline, _clips(headline, folder))
        (folder / "index.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    return target / "index.html"


def _render(run: Path, headline: dict[str, Any], clips: list[dict[str, Any]]) -> str:
    environment = Environment(
        loader=PackageLoader("govor.measure", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters.update(percent=_percent, rate=_rate, p=format_p, clock=_clock)
    metrics = _metrics(run)
    record = read_json(run / "run_manifest.json") if (run / "run_manifest.json").exists() else None
    data = record["data"] if record else {}
    return environment.get_template("index.html").render(
        run=run.name,
        headline=headline,
        clips=clips,
        curves=_curves(metrics),
        record=record,
        training_clips=sum(entry["rows"] for part, entry in data.items() if part.endswith("/train")),
        diagnosis=read_json(run / "diagnosis.json") if (run / "diagnosis.json").exists() else None,
    )


def _clips(headline: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """One entry per clip for the page; audio is copied into the report."""
    first = next(iter(headline["contexts"].values()))
    before, after = (by_id(read_eval(Path(first["files"][side]))[1], side) for side in ("before", "after"))
    (folder / "audio").mkdir()
    entries = []
    for number, name in enumerate(sorted(after)):
        row, old = after[name], before[name]
        entries.append(
            {
                "id": name,
                "audio": _audio(row, folder, number),
                "seconds": row["duration"],
                "speaker": row.get("speaker") or "",
                "source": row.get("source") or "",
                "reference": row["reference"],
                "before": _side(old),
                "after": _side(row),
            }
        )
    return sorted(entries, key=lambda entry: (-entry["after"]["errors"], entry["id"]))


def _side(row: ClipRow) -> dict[str, Any]:
    counts = Counts(**row["words"])
    return {
        "text": row["hypothesis"],
        "errors": counts.errors,
        "wer": counts.rate,
        "diff": word_diff(row["reference"], row["hypothesis"]),
    }


def _audio(row: ClipRow, folder: Path, number: int) -> str | None:
    source = Path(row["audio"])
    whole = row.get("offset") is None and "#" not in row["audio"]
    try:
        if whole and source.suffix.lower() in _PLAYABLE:
            name = f"audio/{number:05d}{source.suffix.lower()}"
            shutil.copyfile(source, folder / name)
            return name
        name = f"audio/{number:05d}.flac"
        samples = decode(row["audio"], row.get("offset") or 0.0, row["duration"])
        soundfile.write(folder / name, samples, SAMPLE_RATE)
    except (AudioError, FileNotFoundError):
        return None  # the recording has gone since the scoring; its texts are still worth reading
    return name


def _metrics(run: Path) -> list[dict[str, Any]]:
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _curves(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Learning curves as SVG paths in a 640×220 box."""
    train = [(row["step"], row["loss"]) for row in metrics if row["kind"] == "train"]
    evals = [row for row in metrics if row["kind"] == "eval"]
    loss = {"training": _smooth(train), "validation": [(row["step"], row["loss"]) for row in evals]}
    rates = {name: [(row["step"], row[name]) for row in evals if row.get(name) is not None] for name in ("wer", "cer")}
    charts = [("Loss per token", loss), ("Error rate on the validation sample", rates)]
    return [_chart(title, lines) for title, lines in charts if any(lines.values())]


def _smooth(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """A running mean over a twentieth of the run; single steps are noise."""
    width = max(len(points) // 20, 1)
    return [
        (points[i][0], sum(value for _, value in points[max(0, i - width + 1) : i + 1]) / min(width, i + 1))
        for i in range(len(points))
    ]


def _chart(title: str, lines: dict[str, list[tuple[int, float]]]) -> dict[str, Any]:
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


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.1%}"


def _rate(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s"
