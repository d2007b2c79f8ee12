"""Every command of the guide is run, in the order of the guide, on a folder of made-up recordings."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import WORDS, make_corpus

ROOT = Path(__file__).parents[1]
PAGES = ("corpus", "training", "measuring", "timing", "packaging")


def commands(page: Path) -> list[str]:
    """Lines of `sh` blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_the_guide_works_as_written(govor: Callable[..., Any], workspace: Path, tiny_folder: Path) -> None:
    import shutil

    make_corpus(workspace / "recordings", 40, speakers=10)
    first = next((workspace / "recordings").rglob("*.wav"))
    nemo = {"audio_filepath": str(first), "text": WORDS[0], "duration": 1.0, "lang": "en"}
    (workspace / "nemo.jsonl").write_text(json.dumps(nemo) + "\n")
    cache = workspace / "cache"
    shutil.copytree(tiny_folder, cache / "models" / "openai--whisper-base" / "hf")  # the guide's base model, made tiny
    ran = []
    for page in PAGES:
        for line in commands(ROOT / "docs" / f"{page}.md"):
            words = shlex.split(line)
            assert words[0] == "govor", line
            # The model is a tiny one that knows nothing: gates that mean something are red.
            govor(*words[1:], expect=int(words[1] == "accept"), GOVOR_CACHE=str(cache))
            ran.append(words[1])
    assert {
        "inventory",
        "manifest",
        "validate",
        "normalize",
        "preprocess",
        "balance",
        "split",
        "licenses",
        "augment",
        "train",
        "evaluate",
        "compare",
        "report",
        "package",
        "transcribe",
        "align",
        "audit",
        "accept",
        "rescore",
        "recipe",
    } <= {*ran}
    assert (workspace / "reports/mine-1/index.html").exists()
    assert "| padded |" in (workspace / "models/whisper/mine-1/README.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_make_targets_that_are_named_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / page).read_text(encoding="utf-8")))
    assert named and named <= targets, named - targets


def test_commands_in_the_readme_are_commands(govor: Callable[..., Any]) -> None:
    for line in commands(ROOT / "README.md"):
        words = shlex.split(line)
        if words[0] == "govor":
            options = [word for word in words[2:] if word.startswith("--")]
            text = govor(words[1], "--help").stdout
            assert all(option in text for option in options), line
