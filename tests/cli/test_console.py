"""What is printed: names are no markup, and commands can be pasted."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from conftest import make_split, toy_recipe
from govor.cli import console

Run = Callable[..., subprocess.CompletedProcess[str]]


def _heeding_ctrl_c() -> None:
    """What is started in the background of a shell ignores Ctrl-C, and passes that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_of_any_command_says_what_is_kept(workspace: Path) -> None:
    code = (
        "import os, signal, sys\nfrom govor import cli\n"
        "from govor import recipe\n"
        "recipe.load = lambda *a: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.argv = ['govor', 'train', 'whisper']\ncli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=workspace,
        preexec_fn=_heeding_ctrl_c,
    )
    assert (done.returncode, done.stderr) == (130, "govor: interrupted; what was finished is kept.\n")


def test_names_are_no_markup_and_commands_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    from govor.cli import console

    with console.bar("transcribe [live] [/x]", 1) as bar:
        bar.advance()
    console.table("phase [/x]: [live]", [{"[bold]": "[red]a[/]", "b": 1}])
    shown = capsys.readouterr().err
    assert "transcribe [live] [/x]" in shown and "phase [/x]: [live]" in shown
    assert "[bold]" in shown and "[red]a[/]" in shown
    words = ["govor", "evaluate", "models/my run [x]", "--manifest", "ša'b;rm -rf $HOME/a.jsonl"]
    assert shlex.split(console.command(*words)) == words


def test_spaces_in_names_are_quoted_in_the_next_command(workspace: Path, tiny_folder: Path, govor: Run) -> None:
    split = make_split(workspace, name="moj skup [1]")
    file = toy_recipe(split.relative_to(workspace), tiny_folder, workspace / "toy.yaml")
    done = govor("train", file, "--device", "cpu")
    assert (
        "next  govor evaluate models/whisper/toy --manifest 'manifests/splits/moj skup [1]/test.jsonl'" in done.stderr
    )


def test_names_in_brackets_stay_in_the_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(record=True, width=200, force_terminal=True)
    monkeypatch.setattr(console, "err", shown)
    with console.bar("transcribe a [live] [/x].wav", 1) as bar:
        bar.to(1, 1, "[b]")
    assert "[live] [/x]" in shown.export_text(), "O12"
