"""The Python API: the examples of its page run as they stand, and nothing of the command line is needed for them."""

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import soundfile

from conftest import make_split, speech

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
# What the examples left behind, looked at where they ran.
CHECKS = """
import sys
assert finished.run.folder == Path("work/models/whisper/mine-1") and finished.metrics["metrics"]["wer"] >= 0
assert " ".join(word.text for word in transcript.words) == " ".join(transcript.text.split()) != "", transcript
assert all(word.start is not None for word in transcript.words) and "-->" in Path("recording.srt").read_text()
assert aligned.method == "cross-attention" and [word.text for word in aligned.words] == ["sol", "luna", "mar"]
assert scored.file == Path("work/manifests/evals/mine-1__mine-test__speech.json") and scored.file.is_file()
assert scored.result["clips"] == 4 and model.context == "speech" and model.name == "mine-1"
assert {path.name for path in Path().iterdir()} == {"work", "cache", "recording.srt"}, "all else is in the workspace"
assert Path("work/models/whisper/trial-1/recipe.yaml").exists(), "the run of the callback was begun"
assert not Path("work/models/whisper/trial-1/run_manifest.json").exists(), "and not concluded"
print("typer" in sys.modules, "govor.cli" in sys.modules)
"""


def python(code: str, folder: Path) -> str:
    environment = {**os.environ, "GOVOR_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_of_the_page_run_without_the_command_line(tmp_path: Path, tiny_folder: Path) -> None:
    base = tmp_path / "cache" / "models" / "openai--whisper-base" / "hf"  # the recipe's base model, made tiny
    shutil.copytree(tiny_folder, base)
    make_split(tmp_path / "work", name="mine")
    soundfile.write(tmp_path / "work" / "recording.wav", speech(["sol", "luna", "mar"]), 16_000)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    printed = python("".join(examples) + CHECKS, tmp_path)
    assert printed.splitlines()[-1] == "False False", "neither typer nor the commands were imported"
    assert "missing work/missing.wav was not found" in printed and "trial-1 was given up: loss" in printed


def test_training_is_refused_before_torch_is_imported(tmp_path: Path, tiny_folder: Path) -> None:
    make_split(tmp_path / "work", name="mine")
    code = f"""
import sys, pathlib, govor
def refused(*settings, **how):
    try:
        given = ["data.split=manifests/splits/mine", "name=mine-1", *settings]
        govor.train("whisper", govor.Workspace(pathlib.Path("work")), given, **how)
    except govor.GovorError as error:
        print(error)
base = "base_model={tiny_folder}"
refused(base, device="gpu")
refused("base_model=./nowhere")
refused(base, "examples.language=xx")
refused(base, existing="resume")
pathlib.Path("work/models/whisper/mine-1").mkdir(parents=True)
pathlib.Path("work/models/whisper/mine-1/thesis.txt").write_text("mine")
refused(base)
print("torch" in sys.modules)
"""
    device, model, language, resume, begun, torch = python(code, tmp_path).splitlines()
    assert "There is no device 'gpu'" in device and "'./nowhere' was not found" in model and "xx" in language
    assert "mine-1" in resume and "already exists" in begun and torch == "False"


def test_every_command_is_a_function_with_the_first_parameter_that_the_page_says() -> None:
    from govor.cli import app

    rows = re.findall(r"^\| `([\w -]+)` \| `([\w.]+)` \| `(\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.M)
    commands = {str(one.name or one.callback.__name__) for one in app.registered_commands if one.callback}
    commands |= {str(group.name) for group in app.registered_groups}
    assert commands == {command.split()[0] for command, _, _ in rows}
    for command, function, first in rows:
        module, _, name = function.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        assert next(iter(inspect.signature(found).parameters)) == first, command


def test_importing_govor_is_light(tmp_path: Path) -> None:
    heavy = "[name for name in ('torch', 'numpy', 'pydantic', 'typer', 'govor.api') if name in sys.modules]"
    assert python(f"import sys, govor; print(govor.__version__, {heavy})", tmp_path).split() == ["0.1.0", "[]"]
    loaded = python("import sys, govor; govor.Workspace; print('torch' in sys.modules)", tmp_path)
    assert loaded.strip() == "False", "PyTorch waits for the first call that needs it"
    assert python("import govor; print(*(getattr(govor, name).__name__ for name in govor.__all__))", tmp_path)
