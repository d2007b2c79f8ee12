"""What a bench measured, kept in `bench/results/<name>.json`, and the table of ratios against goals that `make bench` ends with."""

from __future__ import annotations

import importlib.metadata
import math
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from govor.errors import GovorError
from govor.jsons import Record, read_json, write_json
from govor.machine import environment, now

FOLDER = Path(__file__).resolve().parent / "results"
RATIO = "ratio"
_TOLD_OF_MACHINE = ("processor", "cpu_cores", "gpu", "python")
_PACKAGES = (
    *("torch", "transformers", "ctranslate2", "faster-whisper", "jiwer", "kaldialign", "lhotse", "datasets"),
    *("numpy", "soundfile", "soxr"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks of a bench; None is the bench's own default."""

    model: str | None = None
    clips: int | None = None
    split: str | None = None

    def to_row(self) -> dict[str, str | int]:
        """What was asked for, without folders of this machine."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {
            name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
            for name, value in given.items()
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `unit` "ratio" is one side against another, measured in one run."""

    name: str
    value: float
    unit: str
    better: Literal["higher", "lower"] = "higher"
    goal: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.name} is {self.value}, which is no measurement")

    @property
    def verdict(self) -> str:
        """ "met" or "missed"; "no goal" where there is none."""
        if self.goal is None:
            return "no goal"
        met = self.value >= self.goal if self.better == "higher" else self.value <= self.goal
        return "met" if met else "missed"


def ratio(name: str, value: float, goal: float | None = None, better: Literal["higher", "lower"] = "higher") -> Figure:
    """One side against another."""
    return Figure(name, value, RATIO, better, goal)


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one bench, and what they were measured with."""

    bench: str
    figures: tuple[Figure, ...]
    date: str = ""
    asked: Mapping[str, str | int] = field(default_factory=dict)

    def write(self, folder: Path = FOLDER) -> Path:
        """Keep it, whole or not at all, in place of the result before."""
        told = environment()
        file = folder / f"{self.bench}.json"
        record = {
            "bench": self.bench,
            "date": self.date,
            "commit": told["git_commit"],
            "uncommitted_changes": _changed(),
            "asked": dict(self.asked),
            "machine": {name: told[name] for name in _TOLD_OF_MACHINE},
            "packages": _versions(),
            "figures": [asdict(figure) for figure in self.figures],
        }
        write_json(file, record)
        return file


def measured(bench: str, figures: Sequence[Figure], asked: Asked) -> Result:
    """What was measured just now.

    Raises:
        ValueError: two figures have one name.
    """
    names = [figure.name for figure in figures]
    if len(set(names)) < len(names):
        raise ValueError(f"{bench} gives two figures of one name: {sorted(n for n in names if names.count(n) > 1)[0]}")
    return Result(bench, tuple(figures), now(), asked.to_row())


def stored(bench: str, folder: Path = FOLDER) -> Result | None:
    """The result that is kept; None if there is none.

    Raises:
        GovorError: the file is damaged.
    """
    file = folder / f"{bench}.json"
    if not file.exists():
        return None
    kinds: dict[str, type | tuple[type, ...]] = {
        "figures.*.name": str,
        "figures.*.value": (int, float),
        "figures.*.unit": str,
        "figures.*.goal": (int, float, type(None)),
        "asked.*": (str, int),
    }
    record = read_json(file, kinds, date=str, figures=list, asked=dict)
    return Result(bench, tuple(_figure(row, file) for row in record["figures"]), record["date"], dict(record["asked"]))


def table(now_measured: Mapping[str, Result], benches: Sequence[str], folder: Path = FOLDER) -> str:
    """Every ratio and every figure with a goal: those measured now, and for the other benches those that are kept.

    A file that cannot be read is a line of its own.
    """
    rows = [("bench", "figure", "value", "goal", "verdict", "measured")]
    notes = []
    for bench in benches:
        try:
            result = now_measured.get(bench) or stored(bench, folder)
        except GovorError as error:
            notes.append(f"note: {error}")
            continue
        when = "" if result is None else "now" if bench in now_measured else result.date[:10]
        rows += [] if result is None else [_row(result, figure, when) for figure in result.figures if _shown(figure)]
    verdicts = [row[4] for row in rows[1:]]
    counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("met", "missed", "no goal"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, counted, *notes])


def _shown(figure: Figure) -> bool:
    return figure.unit == RATIO or figure.goal is not None


def _row(result: Result, figure: Figure, when: str) -> tuple[str, str, str, str, str, str]:
    sign = "≥" if figure.better == "higher" else "≤"
    unit = "" if figure.unit == RATIO else f" {figure.unit}"
    goal = "" if figure.goal is None else f"{sign} {figure.goal:g}"
    asked = "".join(f" {name}={value}" for name, value in result.asked.items())
    return result.bench, figure.name, f"{figure.value:.3g}{unit}", goal, figure.verdict, when + asked


def _figure(row: object, file: Path) -> Figure:
    if not isinstance(row, Record):
        raise GovorError(f"{file} holds a figure that is none; measure it again.")
    if row["better"] not in ("higher", "lower"):
        raise GovorError(f"{file}: '{row['name']}' is better neither higher nor lower; measure it again.")
    try:
        return Figure(row["name"], float(row["value"]), row["unit"], row["better"], row["goal"])
    except ValueError as error:
        raise GovorError(f"{file}: {error}; measure it again.") from None


def _versions() -> dict[str, str]:
    """Of what is measured, and of what it is measured beside; what is not installed is left out."""
    found = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _changed() -> bool | None:
    """Whether the program differs from its commit, the results apart; None where nobody can tell."""
    root = str(FOLDER.parents[1])
    command = ["git", "-C", root, "status", "--porcelain", "-uno", "--", ".", ":!bench/results"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return bool(done.stdout.strip())
