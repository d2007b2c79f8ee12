"""Plain-wrong and hostile arguments at every command (H5, H8): one sentence, exit code 2 (or the item listed, 1), no
traceback, no waiting; and what is refused is refused before torch is imported."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import make_split, toy_recipe

Govor = Callable[..., Any]
TEST = "manifests/splits/toy/test.jsonl"

# {} is what is wrong; the suffix is what the command would take it for.
COMMANDS: dict[str, tuple[str, str]] = {
    "inventory": ("inventory {} -l en", ""),
    "manifest": ("manifest {} --out out.jsonl -l en", ".jsonl"),
    "manifest of csv": ("manifest {} --out out.jsonl -l en", ".csv"),
    "manifest of tsv": ("manifest {} --out out.jsonl -l en", ".tsv"),
    "manifest of parquet": ("manifest {} --out out.jsonl -l en", ".parquet"),
    "manifest of cuts": ("manifest {} --out out.jsonl -l en", ".jsonl.gz"),
    "validate": ("validate {} --overwrite", ".jsonl"),
    "normalize": ("normalize {}", ".jsonl"),
    "licenses": ("licenses {}", ".jsonl"),
    "preprocess": ("preprocess {} --name p", ".jsonl"),
    "split": ("split {} --name s", ".jsonl"),
    "balance": ("balance {}", ".jsonl"),
    "augment": ("augment {} --name a", ".jsonl"),
    "augment --config": (f"augment {TEST} --config {{}} --name a", ".yaml"),
    "harvest": ("harvest {}", ".txt"),
    "harvest of csv": ("harvest {}", ".csv"),
    "prepare --registry": ("prepare fleurs-he --dry-run --registry {}", ".yaml"),
    "examples": ("examples {} --recipe toy.yaml", ".jsonl"),
    "examples --recipe": (f"examples {TEST} --recipe {{}}", ".yaml"),
    "train": ("train {}", ".yaml"),
    "train of a record": ("train {}", ".json"),
    "train of a split": ("train toy.yaml --set data.split={}", ""),
    "train of a base": ("train toy.yaml --set base_model={}", ""),
    "train with augmentation": ("train toy.yaml --set examples.augment={}", ".yaml"),
    "train --device": ("train toy.yaml --device {}", ""),
    "average": ("average {}", ""),
    "track": ("track {} --to tensorboard --project p --name n", ".yaml"),
    "evaluate": ("evaluate tiny --manifest {}", ".jsonl"),
    "evaluate of a model": (f"evaluate {{}} --manifest {TEST}", ""),
    "evaluate of a ggml file": (f"evaluate {{}} --manifest {TEST}", ".bin"),
    "evaluate --engine ct2": (f"evaluate {{}} --manifest {TEST} --engine ct2", ""),
    "evaluate --suite": ("evaluate tiny --suite {}", ".yaml"),
    "evaluate --server": (f"evaluate m --server {{}} --manifest {TEST}", ""),
    "rescore": ("rescore {}", ".json"),
    "compare": ("compare {} {}", ".json"),
    "report": ("report {}", ""),
    "accept": ("accept {}", ""),
    "audit": ("audit {} -m tiny", ".jsonl"),
    "transcribe": ("transcribe tiny {} -l en", ".wav"),
    "transcribe --language": ("transcribe tiny AUDIO -l {}", ""),
    "align": ("align {} -m tiny", ".jsonl"),
    "karaoke": ("karaoke AUDIO {} -m tiny -l en", ".lrc"),
    "package": ("package {}", ""),
    "--workspace": ("--workspace {} forget --speaker x", ""),
}
KINDS = ("pipe", "markup", "nested", "long", "binary", "loop", "a list", "folder")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A workspace with a split, a recipe and a model."""
    folder = tmp_path_factory.mktemp("hostile")
    before = Path.cwd()
    os.chdir(folder)
    try:
        split = make_split(Path())
        (folder / "tiny").symlink_to(tiny_folder)
        toy_recipe(split, Path("tiny"), folder / "toy.yaml")
    finally:
        os.chdir(before)
    return folder


def wrong(kind: str, suffix: str, place: Path) -> str:
    """A path, made wrong in one way."""
    folder = place / "wrong"
    folder.mkdir(exist_ok=True)
    name = {"markup": f"[/x][red]\x1b[31m\u05e9{suffix}", "long": "x" * 300 + suffix}.get(kind, f"{kind}{suffix}")
    file = folder / name
    if kind == "long" or file.exists() or file.is_symlink():
        return f"wrong/{name}"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "loop":
        file.symlink_to(file)
    elif kind == "folder":
        file.mkdir()
    elif kind in ("nested", "a list", "binary"):
        file.write_bytes({"nested": b"[" * 100_000, "a list": b"[1]\n"}.get(kind, bytes(range(256)) * 20))
    return f"wrong/{name}"


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=list(COMMANDS))
def test_what_is_wrong_is_one_sentence(govor: Govor, place: Path, number: int) -> None:
    words, suffix = list(COMMANDS.values())[number]
    audio = json.loads((place / TEST).read_text().splitlines()[0])["audio"]
    # A pipe hangs what opens it; of the others each command gets two, so that all of them meet every kind of reader.
    for kind in ("pipe", KINDS[1 + number % 7], KINDS[1 + (number + 3) % 7]):
        path = wrong(kind, suffix, place)
        arguments = [audio if word == "AUDIO" else word.replace("{}", path) for word in words.split()]
        done = govor("--workspace", place, *arguments, expect=None)
        told = f"{kind}: govor {' '.join(arguments)[:200]}\n{done.stdout}\n{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr, told
        assert done.returncode in (1, 2) or (words.startswith("inventory") and kind == "folder"), told
        if done.returncode == 2 and "Usage:" not in done.stderr:
            (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("govor: ")]
            assert len(sentence) < 900 and "\x1b" not in sentence, told


def test_names_are_no_markup(govor: Govor, place: Path) -> None:
    import yaml

    recipe = yaml.safe_load((place / "toy.yaml").read_text())
    recipe["name"] = "marked"
    recipe["finetune"] = {
        **recipe["finetune"],
        "phases": [{"name": "[/x]", "epochs": 1}, {"name": "[live]", "epochs": 1}],
    }
    (place / "marked.yaml").write_text(yaml.safe_dump(recipe))
    done = govor("--workspace", place, "train", "marked.yaml", "--fast-dev-run")
    assert "[/x]" in done.stderr and "[live]" in done.stderr


REFUSED = {
    "an unknown recipe": "train nope",
    "an unknown setting": "train whisper --set finetune.lrr=1",
    "a missing split": "train whisper --set data.split=gone",
    "a base model that is none": "train toy.yaml --set base_model=./gone",
    "a language that the model has not": "train toy.yaml --set examples.language=xx",
    "a device that is none": "train toy.yaml --device abacus",
    "resume and overwrite": "train toy.yaml --resume --overwrite",
    "a run that is there": "train toy.yaml --set name=done",
    "resume of a run that was never begun": "train toy.yaml --resume --set name=gone",
    "a base model that is a run": "train toy.yaml --set name=new --set base_model=models/whisper/done",
    "a missing record": "train models/gone/run_manifest.json",
    "a record that is none": "train one.json",
    "examples of a missing manifest": "examples gone.jsonl --recipe toy.yaml",
    "examples of an unknown recipe": f"examples {TEST} --recipe nope",
    "average of a missing run": "average gone",
    "evaluate of a missing manifest": "evaluate tiny --manifest gone.jsonl",
    "evaluate of a missing model": f"evaluate ./gone --manifest {TEST}",
    "evaluate of a damaged model": f"evaluate damaged --manifest {TEST}",
    "evaluate on a device that is none": f"evaluate tiny --manifest {TEST} --device abacus",
    "evaluate of an unknown suite": "evaluate tiny --suite nope",
    "evaluate of a missing suite": "evaluate tiny --suite gone.yaml",
    "hallucination of a missing model": "evaluate ./gone --hallucination",
    "timestamps of a missing model": f"evaluate ./gone --manifest {TEST} --timestamps",
    "package of a missing run": "package gone",
    "package of no run": "package tiny",
    "package in an unknown format": "package tiny --format zip",
    "package of a missing checkpoint": "package done --checkpoint gone",
    "transcribe over a result": "transcribe tiny AUDIO -l en --outputs",
    "transcribe of a missing file": "transcribe tiny gone.wav",
    "transcribe with a missing model": "transcribe ./gone AUDIO",
    "transcribe in an unknown language": "transcribe tiny AUDIO -l xx",
    "compare of missing scorings": "compare a.json b.json",
    "rescore of a missing scoring": "rescore a.json",
    "accept of a missing run": "accept gone",
    "accept with a gate that is none": "accept tiny --set weer=1",
    "report of a missing run": "report gone",
    "audit of a missing manifest": "audit gone.jsonl -m tiny",
    "audit with a missing model": f"audit {TEST} -m ./gone",
    "align of a missing manifest": "align gone.jsonl -m tiny",
    "align with a missing model": f"align {TEST} -m ./gone",
    "karaoke of a missing text": "karaoke AUDIO gone.txt -m tiny",
    "quickstart with an unknown setting": "quickstart --set finetune.lrr=1",
}


def test_refusals_come_before_torch(place: Path) -> None:
    audio = json.loads((place / TEST).read_text().splitlines()[0])["audio"]
    (place / "one.json").write_text("[1]")
    (place / "damaged").mkdir()
    (place / "damaged" / "config.json").write_text('{"model_type": "whisper", "encoder_attention_heads": 0}')
    run = place / "models" / "whisper" / "done"
    for folder in (run / "base", run / "checkpoints" / "step-000001", place / "outputs" / Path(audio).stem):
        folder.mkdir(parents=True)
    for file in (run / "run_manifest.json", run / "checkpoints" / "step-000001" / "state.json"):
        file.write_text("{}")
    (place / "outputs" / Path(audio).stem / "transcription_base.txt").write_text("mine")
    code = """
import json, os, sys
for name, words in json.load(sys.stdin).items():
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(write, 2)
        sys.argv = ["govor", *words]
        import govor.cli
        code = 0
        try: govor.cli.main()
        except SystemExit as end: code = end.code
        heavy = [m for m in ("torch", "transformers", "accelerate") if m in sys.modules]
        os.write(1, (json.dumps([name, code, heavy]) + "\\n").encode())
        os._exit(0)
    os.close(write); said = os.fdopen(read).read(); os.wait()
    assert "govor: " in said and "Traceback" not in said, (name, said)
"""
    jobs = {name: [audio if word == "AUDIO" else word for word in words.split()] for name, words in REFUSED.items()}
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(jobs), capture_output=True, text=True, cwd=place, check=False
    )
    assert done.returncode == 0, done.stderr
    found = {name: (code, heavy) for name, code, heavy in map(json.loads, done.stdout.splitlines())}
    assert found == dict.fromkeys(REFUSED, (2, []))
