"""A package stands until the new one is whole, and a killed one leaves nothing (T17, T19)."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Zygote, recipe_of, trained
from govor import runs
from govor.errors import GovorError

Run = Callable[..., subprocess.CompletedProcess[str]]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


@pytest.mark.parametrize("stage", ["verify", "ct2", "model_card"])
def test_a_package_stands_until_the_new_one_is_whole(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    from govor.families.whisper.exports import CTranslate2, Transformers
    from govor.package import build

    if stage == "ct2":
        pytest.importorskip("ctranslate2")
    run, _ = trained(recipe_of(workspace, tiny_folder))
    formats: list[Any] = ["hf", "ct2"] if stage == "ct2" else ["hf"]
    build.package(runs.Run(run), formats, None, overwrite=True)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def fail(*_: object) -> None:
        raise GovorError("broken")

    with monkeypatch.context() as patch:
        places = {
            "verify": (Transformers, "verify"),
            "ct2": (CTranslate2, "write"),
            "model_card": (build, "model_card"),
        }
        patch.setattr(*places[stage], fail)
        with pytest.raises(GovorError, match="broken"):
            build.package(runs.Run(run), formats, "step-000003", overwrite=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_killed_package_leaves_nothing_for_ever(
    workspace: Path, tiny_folder: Path, govor: Run, zygote: Zygote
) -> None:
    run, _ = trained(recipe_of(workspace, tiny_folder))
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom govor import files, runs\nfrom govor.package import build\n"
        "plain, count = files.put_in_place, int(sys.argv[1])\n"
        "def put(*a, **k):\n"
        "    global count\n"
        "    count -= 1\n"
        "    if count < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(*a, **k)\n"
        "files.put_in_place = build.put_in_place = put\n"
        "build.package(runs.Run(Path('models/whisper/toy')), ['hf'], None, overwrite=True)\n"
    )
    for moves in (0, 3):
        ended = zygote.run([moves], workspace, {}, code)
        assert ended.returncode == -signal.SIGKILL and not (run / "package.json").exists()
    (run / ".hf").mkdir()  # of earlier versions
    (run / ".hf.12345678.tmp").mkdir()
    (run / "checkpoints/.best.json.12345678.tmp").touch()
    done = govor("package", run)
    assert not leftovers(run) and not leftovers(run.parent) and (run / "package.json").exists()
    assert f"next  govor transcribe {run} AUDIO" in done.stderr
