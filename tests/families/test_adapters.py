"""Adapters: put in, saved alone, merged with a proof; averaged; resumed; the same for both families."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import Silent, make_split, read_metrics, toy_recipe
from govor import recipe as recipes
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.examples.spec import ExampleSpec
from govor.families import adapters
from govor.families.lora import Lora
from govor.families.opening import load_checkpoint
from govor.families.qwen3_asr.tiny import tiny as tiny_qwen
from govor.families.whisper.tiny import tiny
from govor.finetune.average import average_run, write_average
from govor.finetune.train import train
from govor.runs import Run, Workspace

FAMILIES = [pytest.param(tiny, id="whisper"), pytest.param(tiny_qwen, id="qwen3_asr")]


def batch_of(family: Any) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    examples = [
        family.renderer.encode(
            ExampleSpec(Clip(text, "a.wav", text, 1.0, "he"), "he"),
            generator.normal(0, 0.1, 16_000).astype(np.float32),
        )
        for text in ("שלום", "dobar dan")
    ]
    return dict(family.renderer.collate(examples))


def shake(module: torch.nn.Module, scale: float = 0.05) -> None:
    """Adapters begin as nothing; give them something to say."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        if ".lora_B." in name:
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("make", FAMILIES)
@pytest.mark.parametrize("rslora", [False, True])
def test_merging_changes_nothing_and_leaves_a_plain_model(make: Any, rslora: bool) -> None:
    family = make()
    batch = batch_of(family)
    with torch.inference_mode():
        plain = family.logits(batch)
    names = set(family.module.state_dict())
    adapters.inject(family.module, family.lora_targets(), Lora(rank=4, rslora=rslora), seed=0)
    with torch.inference_mode():
        assert torch.equal(family.logits(batch), plain), "fresh adapters say nothing"
    shake(family.module)
    with torch.inference_mode():
        assert float((family.logits(batch) - plain).abs().max()) > 1e-3
    assert adapters.merge_with_proof(family, batch) < 1e-4
    assert set(family.module.state_dict()) == names


def test_a_merge_that_changes_the_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    family = tiny()
    adapters.inject(family.module, family.lora_targets(), Lora(rank=4), seed=0)
    shake(family.module)
    plain = adapters.merge

    def wrong(module: torch.nn.Module) -> None:
        plain(module)
        module.get_parameter("model.encoder.layers.0.fc1.weight").data.mul_(1.5)

    monkeypatch.setattr(adapters, "merge", wrong)
    with pytest.raises(GovorError, match="changes the logits by"):
        adapters.merge_with_proof(family, batch_of(family))


@pytest.mark.parametrize("make", FAMILIES)
def test_defaults_are_the_familys_and_peft_loads_what_is_saved(make: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    family = make()
    targets = family.lora_targets()
    if family.name == "qwen3_asr":
        assert all(name.startswith("model.language_model.layers.") for name in targets), "never the audio tower"
        assert len(targets) == 7 * 2
    else:
        assert len(targets) == 2 * 6 + 2 * 10, "attention and feed-forward of two encoder and two decoder layers"
    adapters.inject(family.module, targets, Lora(rank=4), seed=0)
    assert {p.requires_grad for name, p in family.module.named_parameters() if not adapters.is_adapter(name)} == {False}
    shake(family.module)
    adapters.save_adapters(family.module, targets, Lora(rank=4), "base", tmp_path)
    theirs: Any = make()
    theirs.module = PeftModel.from_pretrained(theirs.module, str(tmp_path)).base_model.model
    batch = batch_of(family)
    with torch.inference_mode():
        torch.testing.assert_close(theirs.logits(batch), family.logits(batch))


@pytest.mark.parametrize("make", FAMILIES)
def test_activation_checkpointing_changes_no_gradient_with_adapters(make: Any) -> None:
    found = []
    for checkpointing in (False, True):
        family = make()
        adapters.inject(family.module, family.lora_targets(), Lora(rank=4), seed=0)
        shake(family.module)
        family.module.train()
        if checkpointing:
            family.module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        loss, _ = family.loss(batch_of(family))
        loss.backward()
        found.append([p.grad.clone() for p in family.module.parameters() if p.grad is not None])
    assert len(found[0]) > 20 and len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with adapters, in its workspace."""
    import os

    folder = tmp_path_factory.mktemp("lora")
    before = Path.cwd()
    os.chdir(folder)
    tiny().save(folder / "tiny")
    split = make_split(folder)
    settings: dict[str, object] = {"method": "lora", "lr": 1e-2, "epochs": 3}
    file = toy_recipe(split, folder / "tiny", folder / "r.yaml", finetune=settings, evaluation={"evaluations": 4})
    finished = train(Workspace(), recipes.load(str(file)), Silent(), device="cpu")
    os.chdir(before)
    return folder / finished.run.folder


def test_a_checkpoint_holds_the_adapters_alone_and_opens_merged(
    lora_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lora_run.parents[2])
    newest = sorted((lora_run / "checkpoints").glob("step-*"))[-1]
    assert not (newest / "model.safetensors").exists()
    assert (newest / adapters.WEIGHTS).stat().st_size < 0.5 * (
        lora_run.parents[2] / "tiny/model.safetensors"
    ).stat().st_size
    family = load_checkpoint(Run(lora_run), newest)
    assert not adapters.has_adapters(family.module)
    base = load_file(lora_run.parents[2] / "tiny/model.safetensors")
    key = "model.decoder.layers.0.fc1.weight"
    assert not torch.equal(family.module.state_dict()[key], base[key])
    assert torch.equal(
        family.module.state_dict()["model.decoder.embed_tokens.weight"], base["model.decoder.embed_tokens.weight"]
    )
    losses = [row["loss"] for row in read_metrics(lora_run, "eval")]
    assert losses[-1] < losses[0]  # type: ignore[operator]


def test_another_base_model_is_refused(lora_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import shutil

    monkeypatch.chdir(lora_run.parents[2])
    copy = tmp_path / "models/whisper/copy"
    shutil.copytree(lora_run, copy)
    kept = json.loads((copy / "base_model.json").read_text())
    (copy / "base_model.json").write_text(json.dumps({**kept, "sha256": "0" * 64}))
    newest = sorted((copy / "checkpoints").glob("step-*"))[-1]
    with pytest.raises(GovorError, match="which has changed since"):
        load_checkpoint(Run(copy), newest)


def test_the_mean_of_adapters_is_the_mean_of_merged_models(lora_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lora_run.parents[2])
    members = sorted((lora_run / "checkpoints").glob("step-*"))[-3:]
    weights = [0.5, 0.3, 0.2]
    write_average(Run(lora_run), members, weights, lora_run / "checkpoints" / "average-3")
    found = load_file(lora_run / "checkpoints/average-3/model.safetensors")
    merged = [load_checkpoint(Run(lora_run), member).module.state_dict() for member in members]
    for name, value in found.items():
        wanted = sum(weight * state[name].double() for weight, state in zip(weights, merged, strict=True))
        torch.testing.assert_close(value.double(), wanted, atol=1e-6, rtol=1e-5)


def test_average_keeps_both_scores_and_ships_the_better(lora_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lora_run.parents[2])
    told = Silent()
    result = average_run(Run(lora_run), 3, "cpu", told)
    assert len(result["members"]) == 3 and sum(m["weight"] for m in result["members"]) == pytest.approx(1, abs=1e-5)
    scores = {
        "average-3": result["average"]["loss"],
        result["best_single"]["checkpoint"]: result["best_single"]["loss"],
    }
    assert result["shipped"] == min(scores, key=lambda name: scores[name])
    best = json.loads((lora_run / "checkpoints/best.json").read_text())
    assert best["checkpoint"] == result["shipped"] and best["value"] == min(scores.values())
    record = json.loads((lora_run / "run_manifest.json").read_text())
    assert record["result"]["best_checkpoint"] == result["shipped"] and record["result"]["average"] == result
    assert "ships" in told.notes[-1]
