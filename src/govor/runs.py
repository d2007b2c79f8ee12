"""The workspace, and a run as an object: the only reader and writer of a run's record and of what is filed about it.

A workspace is a folder with `manifests/`, `models/`, `reports/` and so on. Nothing here depends on the process's current
folder, so that two workspaces can be used at once. Files of a workspace name other files relative to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from govor import locks
from govor.errors import GovorError, nearest
from govor.files import exists, shortened
from govor.jsons import Kinds, Record, read_json, read_log, write_json

# One JSON object.
Json = dict[str, Any]
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
RECORD, PACKAGE, BEST, STATE = "run_manifest.json", "package.json", "best.json", "state.json"

_TEXT = (str, type(None))
_RATE = (int, float, type(None))
_OF_RECORD: Kinds = {
    **dict.fromkeys(("run", "family", "base_model", "base_sha256", "precision", "created"), str),
    **dict.fromkeys(("recipe", "recipe.examples", "recipe.finetune", "environment", "environment.packages"), dict),
    **dict.fromkeys(("data", "data.*", "sources", "sources.*", "split", "licenses", "result", "result.metrics"), dict),
    **dict.fromkeys(("data.*.path", "data.*.sha256", "languages.*"), str),
    "data.*.rows": int,
    "languages": list,
    "language_token": _TEXT,
    "recipe.examples.language": _TEXT,
    "recipe.examples.context": str,
    "result.metrics.*": _RATE,
}
_OF_STATE: Kinds = {
    "step": int,
    "metrics": dict,
    "metrics.*": _RATE,
    "data_sha256": str,
    "loss_scale": (int, float),
    "max_batch_audio_seconds": _RATE,
    **dict.fromkeys(("good_steps", "halvings"), int),
}
_OF_PACKAGE: Kinds = {"checkpoint": str, "formats": list, "formats.*": str, "checks": dict, "checks.*": dict}
# The small files of a run's folder, by name.
_OF_FILES: dict[str, Kinds] = {
    "base_model.json": {"source": str, "sha256": str},
    "precision.json": {"value": str, "reason": str},
    "metrics.json": {"metrics": dict, "metrics.*": _RATE, "best_checkpoint": str, "best_step": int},
    "diagnosis.json": {"figures": dict, "figures.*": _RATE, "sentences": list, "sentences.*": str, "kind": str},
    "average.json": {"shipped": str, "members": list},
}
_OF_SCORINGS: Kinds = {
    **dict.fromkeys(("manifest", "interval", "lenient", "slices", "contexts", "sets", "sets.*", "table.*"), dict),
    **dict.fromkeys(("failed", "slices.*", "table"), list),
    **dict.fromkeys(("contexts.*", "contexts.*.*", "failed.*", "slices.*.*"), dict),
    "clips": int,
    **dict.fromkeys(("wer", "cer", "lenient.wer", "lenient.cer", "real_time_factor", "rate"), _RATE),
    **dict.fromkeys(("wer_interval", "cer_interval"), (list, type(None))),
    **dict.fromkeys(("wer_interval.*", "cer_interval.*"), (int, float)),
}


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder that manifests/, models/ and reports/ are in; the current folder by default."""

    root: Path = Path()

    def path(self, given: str | os.PathLike[str]) -> Path:
        """A path that is relative to the workspace, or absolute, as one that can be opened from here."""
        return self.root / given

    def model(self, source: str) -> str:
        """What names a model, as it can be opened from here: a path of the workspace where there is one, else as it is."""
        return str(self.path(source)) if exists(self.path(source)) else source

    def as_given(self, path: Path) -> str:
        """A path as it was given to `path`, which is how records name it."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def relative(self, path: str | os.PathLike[str]) -> str:
        """How files of the workspace name a path: relative to it where it lies inside, else absolute."""
        absolute, root = Path(os.path.abspath(path)), Path(os.path.abspath(self.root))  # noqa: PTH100  (links stay)
        return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.as_posix()

    def in_words(self, text: str) -> str:
        """A message as files of the workspace hold it: paths inside are relative to it."""
        inside = re.escape(f"{self.root}{os.sep}")
        return text if self.root == Path() else re.sub(rf"(?<![\w.{re.escape(os.sep)}-]){inside}", "", text)

    @property
    def manifests(self) -> Path:
        """What is known of recordings."""
        return self.root / "manifests"

    @property
    def evals(self) -> Path:
        """Scorings."""
        return self.manifests / "evals"

    @property
    def models(self) -> Path:
        """Runs, by family."""
        return self.root / "models"

    @property
    def reports(self) -> Path:
        """Pages."""
        return self.root / "reports"

    @property
    def outputs(self) -> Path:
        """Transcripts of recordings."""
        return self.root / "outputs"

    @property
    def data(self) -> Path:
        """Audio that was made or fetched."""
        return self.root / "data"

    @property
    def uploads(self) -> Path:
        """Recordings as they came."""
        return self.root / "uploads"

    @property
    def logs(self) -> Path:
        """Logs."""
        return self.root / "logs"

    def scoring(self, *parts: str) -> Path:
        """The file of one scoring, by what is filed under: model, set, context; or model and kind of measurement."""
        return self.evals / f"{'__'.join(parts)}.json"

    def scorings(self, *parts: str) -> list[Path]:
        """The files of scorings that are there; a part may be `*`."""
        return sorted(self.evals.glob(f"{'__'.join(parts)}.json"))

    def headline(self, run: str) -> Path:
        """`manifests/eval_<run>.json`: before, after and verdict of a run."""
        return self.manifests / f"eval_{run}.json"

    def read_headline(self, run: str) -> Record | None:
        """Before, after and verdict of a run, as far as they were filed."""
        file = self.headline(run)
        return read_scoring(file) if exists(file) else None

    def write_headline(self, run: str, headline: Json) -> Path:
        """File them; returns the file."""
        write_json(self.headline(run), headline)
        return self.headline(run)

    def run(self, family: str, name: str) -> Run:
        """A run by family and name, whether it is there or not."""
        return Run(self.models / family / name, self)

    def runs(self) -> list[Run]:
        """Every folder of a run, finished or not."""
        folders = [path for path in sorted(self.models.glob("*/*")) if path.is_dir() and not path.name.startswith(".")]
        # Processors bear the names of runs.
        return [Run(path, self) for path in folders if path.parent.name != "processor"]

    def find_run(self, name: str) -> Run:
        """A run by its folder or by its name below models/.

        Raises:
            GovorError: there is none, or there are several of that name.
        """
        place = self.path(name)
        if exists(place):
            if place.is_dir():
                return Run(place, self)
            raise GovorError(f"{name} is no folder; a run's name or folder was wanted.")
        named = [run for run in self.runs() if run.name == name]
        if len(named) > 1:
            folders = ", ".join(str(run.folder) for run in named)
            raise GovorError(f"There are {len(named)} runs called '{name}': {folders}; give one of the paths.")
        if named:
            return named[0]
        raise GovorError(f"There is no run '{shortened(name)}'; {nearest(name, [run.name for run in self.runs()])}")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """`run_manifest.json`: everything that a finished run was made with and what came of it.

    `data` holds path, rows and sha256 of each manifest, by `source/part`; `recipe` is the resolved one; `result` is what
    `metrics.json` says. `more` keeps what other versions of govor wrote.
    """

    run: str
    family: str
    base_model: str
    base_sha256: str
    created: str
    languages: list[str]
    language_token: str | None
    licenses: dict[str, int]
    data: dict[str, Json]
    augment_sha256: str | None
    split: dict[str, Json]
    sources: dict[str, Json]
    recipe: Json
    seed: int
    phases: dict[str, Json]
    precision: str
    devices: int
    memory_halvings: int
    resumed: list[Json]
    result: Json
    environment: Json
    more: Json = field(default_factory=dict)

    @classmethod
    def of(cls, content: Record) -> Self:
        """From a file's content. What earlier versions did not write has its empty value.

        Raises:
            GovorError: what every version wrote is missing.
        """
        names = [one.name for one in fields(cls) if one.name != "more"]
        empty: Json = {"language_token": None, "licenses": {}, "augment_sha256": None, "split": {}, "sources": {}}
        empty |= {"seed": 0, "phases": {}, "devices": 1, "memory_halvings": 0, "resumed": [], "created": ""}
        empty |= {"languages": [], "environment": {}, "result": {}, "base_sha256": "", "precision": "", "family": ""}
        values = {name: content[name] if name in content or name not in empty else empty[name] for name in names}
        return cls(**values, more={key: value for key, value in content.items() if key not in names})

    def as_json(self) -> Json:
        """What is written."""
        return {**{key: value for key, value in asdict(self).items() if key != "more"}, **self.more}


def read_record(file: Path) -> RunRecord:
    """The record in a file that the user named, which need not lie in a run's folder.

    Raises:
        GovorError: it is not there, or is no record of a finished run.
    """
    if not file.is_file():
        raise GovorError(f"The record {file} was not found.")
    content = read_json(file, _OF_RECORD)
    if not {"recipe", "data", "run", "precision", "base_sha256"} <= content.keys():
        raise GovorError(f"{file} is no run_manifest.json of a finished run; a recipe or such a record was wanted.")
    return RunRecord.of(content)


@dataclass(frozen=True, slots=True)
class Package:
    """`package.json`: which checkpoint was packaged, in which formats, and the proof of each."""

    created: str
    checkpoint: str
    formats: list[str]
    checks: dict[str, Json]
    processor: str
    sha256: dict[str, str]
    more: Json = field(default_factory=dict)

    @classmethod
    def of(cls, content: Record) -> Self:
        """From a file's content; what earlier versions did not write has its empty value."""
        known = [one.name for one in fields(cls) if one.name != "more"]
        more = {key: value for key, value in content.items() if key not in known}
        own = (
            content["checkpoint"],
            content["formats"],
            content["checks"],
            content.get("processor", ""),
            content.get("sha256", {}),
        )
        return cls(content.get("created", ""), *own, more)

    def as_json(self) -> Json:
        """What is written."""
        return {**{key: value for key, value in asdict(self).items() if key != "more"}, **self.more}


@dataclass(frozen=True, slots=True)
class Run:
    """One training run: `models/<family>/<name>/` and what is filed about it."""

    folder: Path
    workspace: Workspace = Workspace()

    @classmethod
    def holding(cls, path: Path, workspace: Workspace | None = None) -> Run | None:
        """The run that a folder is, or that it is a checkpoint or an export of; None where it is of none."""
        for place in (path, *list(path.parents)[:2]):
            if exists(place / RECORD) or exists(place / "recipe.yaml"):
                return cls(place, workspace or Workspace())
        return None

    @property
    def name(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.folder / "checkpoints"

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end."""
        return exists(self.folder / RECORD)

    def check_finished(self) -> None:
        """Refuse a folder that is no finished run."""
        if not self.finished:
            raise GovorError(
                f"{self.folder} is no finished run: run_manifest.json is missing. Train it, or go on with govor train … --resume."
            )

    def record(self) -> RunRecord:
        """Its record.

        Raises:
            GovorError: it is not finished, or the record is damaged.
        """
        self.check_finished()
        return RunRecord.of(read_json(self.folder / RECORD, _OF_RECORD))

    def data(self) -> dict[str, Json]:
        """The manifests that its record names (path, rows, sha256), by source and part; of every version's record."""
        self.check_finished()
        return dict(read_json(self.folder / RECORD, _OF_RECORD).get("data") or {})

    def write_record(self, record: RunRecord) -> None:
        """The record, last of all that a run writes."""
        write_json(self.folder / RECORD, record.as_json())

    def whole_checkpoints(self) -> list[Path]:
        """Checkpoints `step-N` that were finished, oldest first."""
        whole = filter(is_whole, self.checkpoints.glob("step-*"))
        return sorted(whole, key=lambda path: int(path.name.removeprefix("step-")))

    def averages(self) -> list[Path]:
        """Averages `average-N` that were finished."""
        return [path for path in sorted(self.checkpoints.glob("average-*")) if is_whole(path)]

    def last_checkpoint(self) -> Path | None:
        """The newest of them."""
        checkpoints = self.whole_checkpoints()
        return checkpoints[-1] if checkpoints else None

    def best_checkpoint(self) -> Path:
        """The one that the run's own metric names best.

        Raises:
            GovorError: none was finished.
        """
        file = self.checkpoints / BEST
        if not exists(file):
            raise GovorError(f"{self.folder} holds no finished checkpoint; train it first, or go on with --resume.")
        return self.checkpoints / str(read_json(file, {"checkpoint": str})["checkpoint"])

    @property
    def has_best(self) -> bool:
        """Whether a best checkpoint is known."""
        return exists(self.checkpoints / BEST)

    def note_best(self, checkpoint: Path, metric: str, value: float | None) -> None:
        """Write down which checkpoint is to be used."""
        write_json(self.checkpoints / BEST, {"checkpoint": checkpoint.name, "metric": metric, "value": value})

    def checkpoint(self, name: str) -> Path:
        """A whole checkpoint by its name.

        Raises:
            GovorError: there is none of that name.
        """
        checkpoint = self.checkpoints / name
        if not is_whole(checkpoint):
            known = ", ".join(path.name for path in sorted(self.checkpoints.glob("*")) if is_whole(path))
            raise GovorError(f"{self.folder} has no checkpoint '{name}'; there are: {known}.")
        return checkpoint

    @property
    def package_file(self) -> Path:
        """Where what was packaged is written down."""
        return self.folder / PACKAGE

    @property
    def packaged(self) -> bool:
        """Whether its folder is a package."""
        return exists(self.package_file)

    def package(self) -> Package:
        """What was packaged."""
        return Package.of(read_json(self.package_file, _OF_PACKAGE))

    def unpackage(self) -> None:
        """From now on its folder is no package, whatever files of one lie in it."""
        self.package_file.unlink(missing_ok=True)

    def read(self, name: str) -> Record:
        """A small JSON file of its folder: base_model, precision, metrics, diagnosis, average, phases."""
        return read_json(self.folder / name, _OF_FILES.get(name))

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""
        return exists(self.folder / name)

    def write(self, name: str, values: Json) -> None:
        """One of those files."""
        write_json(self.folder / name, values)

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.folder / "recipe.yaml"

    def metrics(self, kind: str) -> list[Json]:
        """The rows of one kind, train or eval, of metrics.jsonl; a line that was cut by a crash is left out."""
        return [row for row in read_log(self.folder / "metrics.jsonl") if row.get("kind") == kind]

    def headline(self) -> Record | None:
        """Before, after and verdict, as far as they were filed."""
        return self.workspace.read_headline(self.name)

    def write_headline(self, headline: Json) -> Path:
        """File them; returns the file."""
        return self.workspace.write_headline(self.name, headline)

    @contextmanager
    def held(self, doing: str) -> Iterator[None]:
        """Keep the run for this process while the block runs; see `locks.held`."""
        with locks.held(self.folder, doing):
            yield


def write_package(folder: Path, package: Package) -> None:
    """Write `package.json` into a folder that is being made: last of all, since it says that all is there."""
    write_json(folder / PACKAGE, package.as_json())


def state_file(checkpoint: Path) -> Path:
    """The file that makes a checkpoint whole: whoever copies one copies it last."""
    return checkpoint / STATE


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was finished."""
    return exists(state_file(checkpoint))


def read_state(checkpoint: Path) -> Record:
    """A checkpoint's `state.json`."""
    return read_json(checkpoint / STATE, _OF_STATE)


def write_state(checkpoint: Path, values: Json) -> None:
    """A checkpoint's `state.json`, last of its files: what has one is whole."""
    write_json(checkpoint / STATE, values)


def read_scoring(file: Path) -> Record:
    """The summary of a scoring, or of a measurement or a headline."""
    return read_json(file, _OF_SCORINGS)


def write_scoring(file: Path, summary: Json) -> None:
    """The summary of a scoring or of a measurement, last of its files."""
    write_json(file, summary)


def check_name(name: str) -> str:
    """A run's name becomes a folder, so only plain characters."""
    if not NAME.fullmatch(name):
        raise GovorError(f"'{name}' is no run name: letters, digits, '.', '_' and '-' are, up to 100 of them.")
    return name


def plain_name(text: str) -> str:
    """A run name made of a file's: what may not stand in one becomes a hyphen."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-._")[:80] or "unnamed"
