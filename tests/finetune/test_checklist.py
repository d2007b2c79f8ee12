"""What is checked before the first step (T16)."""

import shutil
from pathlib import Path

import pytest

from conftest import recipe_of, trained
from govor import runs
from govor.errors import GovorError
from govor.finetune import checklist


def test_the_checklist_stands_before_the_first_step_with_figures(workspace: Path, tiny_folder: Path) -> None:
    _, told = trained(recipe_of(workspace, tiny_folder))
    lines = {note.partition(":")[0]: note for note in told.notes if note.startswith("check ")}
    assert list(lines) == ["check manifests", "check audio", "check folder", "check disk", "check GPU memory"]
    assert "12 training clips" in lines["check manifests"] and "12 of 12 sampled clips" in lines["check audio"]
    assert "MiB free" in lines["check disk"] or "GiB free" in lines["check disk"]


def test_a_disk_without_room_for_the_checkpoints_is_refused(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    (_, last) = runs.Run(run).whole_checkpoints()
    one = sum(path.stat().st_size for path in last.iterdir())
    plain = shutil.disk_usage(workspace)
    for free, fits in ((int(1.9 * one), False), (int(2.1 * one), True)):
        monkeypatch.setattr(checklist.shutil, "disk_usage", lambda _, free=free: plain._replace(free=free))
        if fits:
            trained(file, "name=other", overwrite=True)
        else:
            with pytest.raises(GovorError, match="MiB free and this run's checkpoints"):
                trained(file, "name=other")
            assert not Path("models/whisper/other").exists()
    monkeypatch.setattr(checklist.shutil, "disk_usage", lambda _: plain._replace(free=one // 10))
    trained(file, overwrite=True)  # the old run makes room
