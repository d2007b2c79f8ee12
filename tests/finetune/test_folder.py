"""An old run gives way only to one that has begun (T04)."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Silent, make_split, recipe_of, toy_recipe, trained
from govor import files
from govor import recipe as recipes
from govor.errors import GovorError
from govor.finetune.train import train
from govor.runs import Workspace


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("link", [False, True])
def test_an_old_run_that_cannot_be_deleted_never_comes_back_over_a_new_one(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    if link:
        run.rename(workspace / "far")
        run.symlink_to(workspace / "far")
    else:
        monkeypatch.setattr(files.shutil, "rmtree", lambda path, ignore_errors=False: None)
    _, told = trained(file, "finetune.seed=1", overwrite=True)
    record = (run / "run_manifest.json").read_text()
    with pytest.raises(GovorError, match="already exists"):
        trained(file)
    with pytest.raises(GovorError):
        trained(file, "data.split=nowhere", overwrite=True)
    assert (run / "run_manifest.json").read_text() == record and json.loads(record)["seed"] == 1
    if link:
        assert (workspace / "far/run_manifest.json").exists() and not run.is_symlink()
        assert any("was a link" in note for note in told.notes) and not leftovers(workspace / "models")
    else:
        assert any("could be deleted" in note for note in told.notes)


def test_a_refused_training_brings_the_old_run_back(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    monkeypatch.setattr("govor.finetune.train.standard_callbacks", lambda *_: (_ for _ in ()).throw(GovorError("late")))
    with pytest.raises(GovorError, match="late"):
        trained(file, overwrite=True)
    assert sorted(path.relative_to(run) for path in run.rglob("*")) == before
    assert not leftovers(workspace / "models")


def test_an_old_run_set_aside_by_a_killed_process_comes_back(workspace: Path, tiny_folder: Path) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    run.rename(run.with_name(f".toy.{files.machine()}-{a_dead_process()}-1-abcd.aside"))
    run.mkdir()
    (run / "precision.json").write_text("{}")
    with pytest.raises(GovorError, match="already exists"):
        trained(file)
    assert (run / "run_manifest.json").exists() and not leftovers(workspace / "models")


def test_an_empty_folder_on_another_disk_is_trained_in_through_its_link(workspace: Path, tiny_folder: Path) -> None:
    (workspace / "far").mkdir()
    (workspace / "models/whisper").mkdir(parents=True)
    (workspace / "models/whisper/toy").symlink_to(workspace / "far")
    run, _ = trained(recipe_of(workspace, tiny_folder))
    assert run.is_symlink() and (workspace / "far/run_manifest.json").exists()


def test_a_folder_with_files_of_others_is_never_deleted_unasked(workspace: Path, tiny_folder: Path) -> None:
    file = recipe_of(workspace, tiny_folder)
    other = workspace / "models/whisper/toy/model.safetensors"
    other.parent.mkdir(parents=True)
    other.write_text("somebody's package")
    with pytest.raises(GovorError, match="already exists"):
        trained(file)
    assert other.read_text() == "somebody's package"


def test_a_signal_before_the_first_step_brings_the_old_run_back(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from govor.finetune.stopping import Interrupted

    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    record = (run / "run_manifest.json").read_text()
    monkeypatch.setattr("govor.finetune.session._trainer", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="nothing was trained yet"):
        trained(file, overwrite=True)
    assert (run / "run_manifest.json").read_text() == record


def settings_of(workspace: Path, base: Path, **sections: Any) -> str:
    return str(toy_recipe(make_split(workspace), base, workspace / "toy.yaml", **sections))


def test_an_old_run_survives_a_new_one_that_cannot_begin(workspace: Path, tiny_folder: Path) -> None:
    file = settings_of(workspace, tiny_folder)
    old = train(Workspace(), recipes.load(file), Silent(), device="cpu")
    before = sorted(path.relative_to(old.run.folder) for path in old.run.folder.rglob("*"))
    (workspace / "bad.yaml").write_text("noise: {probability: 0.5, folder: nothing-here}\n")
    for settings in (["examples.augment=nope.yaml"], ["examples.augment=bad.yaml"], ["finetune.groups={x: 1e-4}"]):
        with pytest.raises(GovorError):
            train(Workspace(), recipes.load(file, settings), Silent(), overwrite=True, device="cpu")
        assert sorted(path.relative_to(old.run.folder) for path in old.run.folder.rglob("*")) == before
    assert not list(Path("models/whisper").glob(".*"))


def test_a_tracker_that_does_not_start_brings_the_old_run_back(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from govor.finetune import logging_callbacks, session

    file = settings_of(workspace, tiny_folder)
    old = train(Workspace(), recipes.load(file), Silent(), device="cpu")
    record = (old.run.folder / "run_manifest.json").read_bytes()

    def failing(*_: Any, **__: Any) -> Any:
        raise GovorError("it does not start")

    monkeypatch.setattr(session, "check_installed", lambda _: None)
    monkeypatch.setattr(logging_callbacks, "Trackers", failing)
    with pytest.raises(GovorError, match="does not start"):
        train(Workspace(), recipes.load(file, ["tracking.to=[tensorboard]"]), Silent(), overwrite=True, device="cpu")
    assert (old.run.folder / "run_manifest.json").read_bytes() == record
