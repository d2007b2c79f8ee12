"""Experiment trackers: wandb, TensorBoard and trackio, all optional, all working offline.

They show a run; `metrics.jsonl` and the log stay its record. Their files lie below the run's folder, keys are found and
kept by the libraries alone. The libraries are called directly: accelerate's wrappers skip silently what is not
installed, and offer neither resuming nor text.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import json
import os
import re
import sys
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from govor import recipe as recipes
from govor.errors import GovorError
from govor.files import write_text
from govor.recipe import Recipe
from govor.runs import Workspace

TRACKERS = ("wandb", "tensorboard", "trackio")
_START_SECONDS = 30.0  # for wandb's server to answer at the start
_FINISH_SECONDS = 300.0  # for wandb to upload what is left at the end
_FLUSH_SECONDS = 30


def check_installed(names: Sequence[str]) -> None:
    """Look for the packages of these trackers, before any model loads.

    Raises:
        GovorError: one is missing.
    """
    # Metadata and not find_spec: a folder called wandb in the working directory would pass for the package.
    missing = [name for name in names if not _installed(name)]
    if missing:
        raise GovorError(
            f"Tracking with {', '.join(missing)} was asked for and {'it is' if len(missing) == 1 else 'they are'} not "
            f'installed; run pip install "govor[track]", or take {", ".join(missing)} out of the recipe.'
        )


def write_tracked(
    workspace: Workspace, recipe: str, target: Path, to: Sequence[str], project: str, name: str
) -> list[str]:
    """Write a recipe file `target` that extends `recipe` by trackers.

    Returns the options that training it needs besides: where data is, of sources whose split is not in the workspace.

    Raises:
        GovorError: a tracker is not known or not installed, or the project or name looks like a key.
    """
    file = recipe.endswith((".yaml", ".yml"))
    parent = str(workspace.path(recipe)) if file else recipe
    text = recipes.extension_text(tracked_recipe(parent, target, to, project, name), target, workspace)
    check_installed(to)
    write_text(target, text)
    return _options_for_data(workspace, recipes.load(str(target.absolute()), workspace=workspace))


def _options_for_data(workspace: Workspace, recipe: Recipe) -> list[str]:
    splits = sorted(file.parent for file in workspace.manifests.glob("splits/*/train.jsonl"))
    one = workspace.as_given(splits[0]) if len(splits) == 1 else "manifests/splits/NAME"
    data = recipe.data
    missing = [name for name, source in data.by_name().items() if not workspace.path(source.split).is_dir()]
    settings = [f"data.split={one}" if data.split else f"data.sources.{name}.split={one}" for name in missing]
    return [word for setting in settings for word in ("--set", setting)]


def tracked_recipe(recipe: str, target: Path, to: Sequence[str], project: str, name: str) -> dict[str, Any]:
    """Settings of a recipe file `target` that extends `recipe` by trackers.

    Raises:
        GovorError: the project or name looks like a key, which has no place in a file.
    """
    for what, text in (("project", project), ("run name", name)):
        if re.fullmatch(r"(wandb_v1_\S+|hf_\w{20,}|[0-9a-f]{40,})", text.strip()):
            raise GovorError(f"The {what} looks like a secret key; keys are never written into a recipe. Give a name.")
    shipped = not recipe.endswith((".yaml", ".yml"))
    extended = recipe if shipped else Path(os.path.relpath(recipe, target.parent)).as_posix()
    return {"extends": extended, "name": name, "tracking": {"to": list(to), "project": project}}


def login_hint(to: Sequence[str]) -> list[str]:
    """Where each tracker gets its key, or how to look at it."""
    hints = {
        "wandb": "wandb: `wandb login` or WANDB_API_KEY in the environment; without them a run stays offline, for `wandb sync`",
        "tensorboard": "tensorboard: tensorboard --logdir models",
        "trackio": "trackio: TRACKIO_DIR=models/…/tracking/trackio trackio show",
    }
    return [hints[name] for name in to]


class Trackers:
    """The trackers of one run, told together. One that fails is noted once and left out; training goes on."""

    def __init__(
        self,
        names: Sequence[str],
        project: str,
        run: str,
        folder: Path,
        settings: Mapping[str, Any],
        notify: Callable[[str], None] = warnings.warn,
        done: int = 0,
    ) -> None:
        """Start them, in the main process alone.

        Args:
            names: of `TRACKERS`; none is allowed.
            project: what groups the runs.
            run: the run's name.
            folder: where their files go; a run that is resumed gives the same folder and is appended to.
            settings: the recipe, recorded with the run.
            notify: told where to look, and once of each failure.
            done: optimiser steps already done. TensorBoard forgets what was logged after them; wandb keeps the first
                value of a step, trackio both, which are equal because a resumed run repeats itself.

        Raises:
            GovorError: a package is missing, or a tracker does not start.
        """
        check_installed(names)
        self._notify = notify
        self._running: dict[str, _Tracker] = {}
        for name in names:
            try:
                tracker = _STARTS[name](project, run, folder.absolute() / name, settings, done)
            except Exception as error:
                self.close()
                raise GovorError(
                    f"Tracking with {name} does not start ({_cause(error)}); take {name} out of the recipe, or mend that."
                ) from error
            self._running[name] = tracker
            notify(f"{name}: {tracker.where}")

    def log(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Record numbers at a step, named like `train/loss` or `validation/wer.knesset`; None was not measured."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        if known:
            self._tell(lambda tracker: tracker.log(step, known))

    def note(self, step: int, text: str) -> None:
        """Record an event at a step: a checkpoint, a switch of phase."""
        self._tell(lambda tracker: tracker.note(step, text))

    def close(self) -> None:
        """Write what is left, and end; what is logged afterwards goes nowhere."""
        self._tell(lambda tracker: tracker.close())
        self._running.clear()

    def _tell(self, call: Callable[[_Tracker], None]) -> None:
        for name, tracker in list(self._running.items()):
            try:
                call(tracker)
            except Exception as error:
                del self._running[name]
                self._notify(
                    f"{name} failed ({_cause(error)}) and is left out from here; training goes on, metrics.jsonl has all"
                )


class _Tracker(Protocol):
    """One library. `where` says how to see the run."""

    where: str

    def log(self, step: int, values: dict[str, float]) -> None: ...
    def note(self, step: int, text: str) -> None: ...
    def close(self) -> None: ...


class _Wandb:
    """Online where the user is logged in or WANDB_MODE says so, else offline, for `wandb sync`."""

    def __init__(self, project: str, run: str, folder: Path, settings: Mapping[str, Any], done: int) -> None:
        wandb: Any = importlib.import_module("wandb")
        self._wandb = wandb
        folder.mkdir(parents=True, exist_ok=True)
        wandb.setup(wandb.Settings(silent=True))

        suffix = uuid.uuid4().hex[:8]

        def start(mode: str) -> Any:
            return wandb.init(
                project=project,
                name=run,
                id=_kept_id(folder / "run_id.txt"),
                dir=folder.parent,  # below which it makes its own folder, of this very name
                config=dict(settings),
                mode=mode,
                resume="allow",
                reinit="create_new",
                # No git: the address of a remote may hold a token. No console: it is the user's.
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    disable_git=True,
                    disable_code=True,
                    init_timeout=_START_SECONDS,
                    x_sync_dir_suffix=suffix,  # two starts within a second would share a folder, and one's rows be lost
                    finish_timeout=_FINISH_SECONDS,
                ),
            )

        mode = os.environ.get("WANDB_MODE") or _wandb_mode(wandb)
        failure = ""
        try:
            self._run = start(mode)
        except Exception as error:
            if mode != "online":
                raise
            failure = f"no connection ({type(error).__name__}), so this run is kept offline; "
            wandb.teardown()  # the failed start holds the run's id
            wandb.setup(wandb.Settings(silent=True))
            self._run = start("offline")
        self.where = failure + (self._run.url or f"wandb sync {Path(self._run.dir).parent}")
        self._noted: tuple[int, str] = (-1, "")

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def note(self, step: int, text: str) -> None:
        # A name has one value a step: the second note of a step is joined to the first.
        before = f"{self._noted[1]}; " if self._noted[0] == step else ""
        self._noted = (step, before + text)
        self._run.log({"note": self._noted[1]}, step=step)

    def close(self) -> None:
        self._run.finish()
        # `finish` comes back before the last rows are in the file; the end of its service does not.
        self._wandb.teardown()


class _TensorBoard:
    def __init__(self, project: str, run: str, folder: Path, settings: Mapping[str, Any], done: int) -> None:
        library: Any = importlib.import_module("torch.utils.tensorboard")
        purge = done + 1 if done else None
        self._writer = library.SummaryWriter(folder, purge_step=purge, flush_secs=_FLUSH_SECONDS)
        # Not add_hparams: it opens a second file, and a reader that has gone on to one never returns to the first.
        for summary in library.summary.hparams(_flat(settings), {}):
            self._writer.file_writer.add_summary(summary)
        self.where = f"tensorboard --logdir {folder}"

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def note(self, step: int, text: str) -> None:
        self._writer.add_text("note", text, step)

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    """A folder shared by several runs is TRACKIO_DIR, where the user has set it."""

    def __init__(self, project: str, run: str, folder: Path, settings: Mapping[str, Any], done: int) -> None:
        folder = Path(os.environ.get("TRACKIO_DIR") or folder)
        self._trackio = trackio = _import_trackio(folder)
        # trackio prints what it does, in the middle of the progress bar.
        with redirect_stdout(io.StringIO()):
            self._run = trackio.init(
                project=project,
                name=run,
                config=dict(settings),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self.where = f"TRACKIO_DIR={folder} trackio show --project {project}"

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def note(self, step: int, text: str) -> None:
        with redirect_stdout(io.StringIO()):
            self._run.alert(text, level=self._trackio.AlertLevel.INFO, step=step)

    def close(self) -> None:
        with redirect_stdout(io.StringIO()):
            self._trackio.finish()  # the run's own would be called again, and print, when Python ends


_STARTS: dict[str, Callable[[str, str, Path, Mapping[str, Any], int], _Tracker]] = {
    "wandb": _Wandb,
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
}


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _wandb_mode(wandb: Any) -> str:
    """wandb looks for its own key, without asking for one and without a server."""
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def _kept_id(file: Path) -> str:
    """The id by which a resumed run is the same run."""
    if not file.exists():
        write_text(file, uuid.uuid4().hex[:12] + "\n")
    return file.read_text(encoding="utf-8").strip()


def _import_trackio(folder: Path) -> Any:
    """trackio reads its folder once, when it is imported: for the next run of this process it is imported anew."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]
    before = os.environ.get("TRACKIO_DIR")
    os.environ["TRACKIO_DIR"] = str(folder)
    try:
        return importlib.import_module("trackio")
    finally:
        if before is None:
            del os.environ["TRACKIO_DIR"]
        else:
            os.environ["TRACKIO_DIR"] = before


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name; TensorBoard takes truth values, numbers and text."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return flat


def _cause(error: Exception) -> str:
    """A library's error in one short line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
