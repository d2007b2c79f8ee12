"""Every family × method × format × layout of the base: trained, scored, packaged, loaded again, the same (T02 and its kind)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import Silent, make_split, toy_recipe, transcribe_clips
from govor import recipe as recipes
from govor.corpus.manifests import Manifest
from govor.families.opening import open_model
from govor.families.qwen3_asr.tiny import tiny as tiny_qwen
from govor.families.whisper.tiny import tiny
from govor.finetune.train import train
from govor.package.build import package
from govor.runs import Run, Workspace
from stock import published, to_ggml


def whisper(**options: Any) -> Any:
    """A tiny model whose logits are spread, so that two engines that round differently choose the same tokens."""
    family = tiny(**options)
    with torch.no_grad():
        family.module.get_parameter("model.decoder.embed_tokens.weight").mul_(8)
    return family


def saved(
    make: Callable[[], Any], dtype: torch.dtype = torch.float32, shard: str | None = None
) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        family = make()
        family.save(root / "base")
        if dtype != torch.float32:
            weights = {name: value.to(dtype) for name, value in load_file(root / "base/model.safetensors").items()}
            save_file(weights, root / "base/model.safetensors", metadata={"format": "pt"})
        if shard:
            (root / "base/model.safetensors").unlink()
            family.module.save_pretrained(root / "base", max_shard_size=shard)
            assert (root / "base/model.safetensors.index.json").exists()
        return "base"

    return write


def ctranslate2(root: Path) -> str:
    from ctranslate2.converters import TransformersConverter

    saved(whisper)(root)
    copies = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(root / "base"), copy_files=copies).convert(str(root / "ct2"))
    return "ct2"


def ggml(root: Path) -> str:
    published().save(root / "plain")
    to_ggml(root / "plain", root / "base.bin")
    return "base.bin"


def thinker(root: Path) -> str:
    tiny_qwen().save_thinker(root / "base")
    return "base"


def a_package(make: Callable[[], Any], family: str, method: str) -> Callable[[Path], str]:
    """The package of an earlier run."""

    def write(root: Path) -> str:
        saved(make)(root)
        run = trained(root, family, "base", method, "earlier")
        package(Run(run), ["hf"], None, overwrite=True)
        return str(run)

    return write


def a_run(make: Callable[[], Any], family: str, method: str, checkpoint: str = "") -> Callable[[Path], str]:
    """An earlier run that is not packaged, or one of its checkpoints."""

    def write(root: Path) -> str:
        saved(make)(root)
        return str(trained(root, family, "base", method, "earlier") / checkpoint)

    return write


BASES: dict[str, dict[str, Callable[[Path], str]]] = {
    "whisper": {
        "folder": saved(whisper),
        "bf16": saved(whisper, torch.bfloat16),
        "fp16": saved(whisper, torch.float16),
        "shards": saved(whisper, shard="500KB"),
        "128 bands": saved(lambda: whisper(n_mels=128)),
        "ctranslate2": ctranslate2,
        "ggml": ggml,
        "package": a_package(whisper, "whisper", "full"),
        "package of adapters": a_package(whisper, "whisper", "lora"),
        "run": a_run(whisper, "whisper", "full"),
        "checkpoint of adapters": a_run(whisper, "whisper", "lora", "checkpoints/step-000002"),
    },
    "qwen3_asr": {
        "folder": saved(tiny_qwen),
        "bf16": saved(tiny_qwen, torch.bfloat16),
        "shards": saved(tiny_qwen, shard="200KB"),
        "untied": saved(lambda: tiny_qwen(tied=False)),
        "thinker": thinker,
        "package": a_package(tiny_qwen, "qwen3_asr", "full"),
        "package of adapters": a_package(tiny_qwen, "qwen3_asr", "lora"),
        "run of adapters": a_run(tiny_qwen, "qwen3_asr", "lora"),
        "checkpoint": a_run(tiny_qwen, "qwen3_asr", "full", "checkpoints/step-000002"),
    },
}
FORMATS = {"whisper": "ct2", "qwen3_asr": "thinker"}


def trained(root: Path, family: str, base: str, method: str, name: str) -> Path:
    """A run of a few steps."""
    split = root / "manifests" / "splits" / "toy"
    if not split.exists():
        make_split(root, train=4, held_out=2)
    settings: dict[str, object] = {"epochs": 2, "method": method, "lr": 1e-2 if method == "lora" else 1e-3}
    file = toy_recipe(split, Path(base), root / f"{name}.yaml", finetune=settings)
    file.write_text(file.read_text().replace("name: toy", f"name: {name}") + f"family: {family}\n")
    return Path(train(Workspace(), recipes.load(str(file)), Silent(), device="cpu").run.folder)


def said(source: str, engine: Any = "torch") -> list[str]:
    """What a model makes of two clips, through the scoring's own door."""
    opened = open_model(source, engine=engine)
    return [row["hypothesis"] for row in transcribe_clips(opened.recogniser, list(Manifest(CLIPS)), "speech")]


CLIPS = Path("manifests/splits/toy/test.jsonl")
ROWS = [
    pytest.param(family, method, base, id=f"{family}-{method}-{base}")
    for family, bases in BASES.items()
    for base in bases
    for method in ("full", "lora")
]


@pytest.mark.parametrize(("family", "method", "base"), ROWS)
def test_trained_scored_packaged_and_loaded_again(
    family: str, method: str, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOVOR_CACHE", str(tmp_path / "cache"))
    source = BASES[family][base](tmp_path)
    run = trained(tmp_path, family, source, method, "mine")
    chosen = Run(run).best_checkpoint()
    assert (chosen / "adapter_model.safetensors").exists() == (method == "lora")
    wanted = said(str(run))
    assert wanted == said(str(chosen)), "a run is its best checkpoint"
    result = package(Run(run), ["hf", FORMATS[family]], None, overwrite=True)  # type: ignore[list-item]
    assert ("merge" in result.checks) == (method == "lora")
    assert result.checks["hf"]["max_logit_difference"] < 1e-3
    assert said(str(run)) == wanted, "the package is the run"
    moved = shutil.copytree(run, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("checkpoints", "base", ".*"))
    assert said(str(moved)) == wanted, "it needs nothing but itself"
    if family == "whisper":
        assert result.checks["ct2"]["encoder_relative_error"] < 1e-4
        assert said(str(run), "ct2") == wanted
    else:
        assert result.checks["thinker"]["max_logit_difference"] < 1e-3
        assert said(str(run / "thinker")) == wanted
    packaged = open_model(str(moved)).recogniser.module.state_dict()  # type: ignore[attr-defined]
    ours = open_model(str(chosen)).recogniser.module.state_dict()  # type: ignore[attr-defined]
    assert packaged.keys() == ours.keys()
    assert all(torch.equal(packaged[name], ours[name]) for name in ours)


@pytest.mark.parametrize("quantization", ["float16", "int8"])
def test_adapters_are_exported_in_small_number_formats_too(
    quantization: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(whisper)(tmp_path)
    run = trained(tmp_path, "whisper", "base", "lora", "mine")
    assert package(Run(run), ["ct2"], None, quantization, overwrite=True).checks["ct2"]["quantization"] == quantization


def test_the_command_packages_adapters(govor: Any, workspace: Path) -> None:
    saved(whisper)(workspace)
    trained(workspace, "whisper", "base", "lora", "mine")
    govor("package", "mine", "--format", "hf,ct2")
    assert json.loads(Path("models/whisper/mine/package.json").read_text())["formats"] == ["ct2", "hf"]
    assert Path("models/processor/mine/proof.json").is_file()
    govor("transcribe", "models/whisper/mine", next(iter(Manifest(CLIPS))).audio)
