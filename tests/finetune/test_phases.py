"""Phases, parameter groups, schedules: what trains when, at which rate, and what the optimiser keeps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Silent, make_split, read_metrics, toy_recipe
from govor import recipe as recipes
from govor.errors import GovorError
from govor.families.qwen3_asr.tiny import tiny as tiny_qwen
from govor.families.whisper.tiny import tiny
from govor.finetune.groups import assign, freeze_all_but, table
from govor.finetune.loop import Trainer
from govor.finetune.optim import build_optimizer, rate_factor, set_rates
from govor.finetune.phases import even_steps, forecast, phase_at, phases_of
from govor.finetune.train import train
from govor.recipe import Recipe
from govor.runs import Workspace


def recipe(**finetune: Any) -> Recipe:
    return Recipe(
        name="x",
        base_model="-",
        data=recipes.Data(
            epoch="big",
            sources={"big": recipes.Source(split="b", weight=0.9), "small": recipes.Source(split="s", weight=0.1)},
        ),
        finetune=recipes.Finetune(clips_per_step=10, **finetune),
    )


def test_phases_have_their_own_length_schedule_and_mixture() -> None:
    found = phases_of(
        recipe(
            lr=1e-5,
            warmup_steps=3,
            phases=(
                recipes.PhaseSettings(name="one", epochs=2, weights={"big": 1.0}, lr=1e-4, warmup_steps=0),
                recipes.PhaseSettings(name="two", epochs=1, schedule="cosine"),
            ),
        ),
        [900, 50],
    )
    assert [(s.name, s.first_step, s.steps, s.schedule, s.warmup_steps) for s in found] == [
        ("one", 0, 180, "linear", 0),
        ("two", 180, 100, "cosine", 3),
    ]
    assert [s.rates for s in found] == [{"all": 1e-4}, {"all": 1e-5}]
    assert rate_factor(found[0], 0) == 1.0 and rate_factor(found[1], 180) == 0.25 and rate_factor(found[1], 183) == 1.0
    assert [phase_at(found, step).name for step in (0, 179, 180, 279, 280)] == ["one", "one", "two", "two", "two"]
    assert {180, 280} <= even_steps(found, 7), "every phase ends with an evaluation"
    rows, warnings = forecast(found[1], ["big", "small"], [3600.0, 180.0], 10)
    assert [(row["draws"], row["repeats"], row["hours"]) for row in rows] == [(900, 1.0, 1.0), (100, 2.0, 0.1)]
    assert warnings == []
    again, warnings = forecast(found[1], ["big", "small"], [3600.0, 18.0], 100)
    assert again[1]["repeats"] == 20.0
    assert len(warnings) == 1 and "'small' has 50 rows and is seen 20.0 times" in warnings[0]


def test_max_steps_cuts_and_a_warm_up_longer_than_its_phase_is_refused() -> None:
    two = (recipes.PhaseSettings(name="a", epochs=1), recipes.PhaseSettings(name="b", epochs=1))
    assert [s.steps for s in phases_of(recipe(phases=two, max_steps=120), [900, 50])] == [100, 20]
    assert [s.steps for s in phases_of(recipe(phases=two, max_steps=60), [900, 50])] == [60]
    with pytest.raises(GovorError, match="warmup_steps is 150 and phase 'a' has 100 steps"):
        phases_of(recipe(phases=two, warmup_steps=150), [900, 50])
    with pytest.raises(GovorError, match="'small' has no rows left to draw from"):
        phases_of(recipe(), [900, 0])
    lone = (recipes.PhaseSettings(name="a", epochs=1, weights={"small": 1.0}),)
    with pytest.raises(GovorError, match="counts its epochs by 'big', of which it draws nothing"):
        phases_of(recipe(phases=lone), [900, 50])


@pytest.mark.parametrize("family", [tiny(layers=4), tiny_qwen(layers=4)], ids=["whisper", "qwen3_asr"])
def test_groups_divide_the_parameters_and_the_narrower_name_wins(family: Any) -> None:
    parts = family.parts()
    groups = {g.name: g for g in assign(parts, {"encoder": 1e-5, "encoder.top2": 2e-5, "decoder": 3e-5, "head": 4e-5})}
    names = [name for group in groups.values() for name in group.parameters]
    assert len(names) == len(set(names))
    assert {part for part, members in parts.items() if set(members) & set(groups["encoder.top2"].parameters)} == {
        "encoder.2",
        "encoder.3",
        "encoder.norm",
    }
    assert not set(groups["encoder"].parameters) & set(parts["encoder.3"])
    assert set(parts["encoder.0"]) <= set(groups["encoder"].parameters)
    assert set(groups["head"].parameters) == set(parts["embeddings"]) and "tied" in groups["head"].note
    freeze_all_but(family.module, list(groups.values()))
    trainable = {name for name, p in family.module.named_parameters() if p.requires_grad}
    assert trainable == set(names)
    rows = table(family.module, list(groups.values()))
    assert sum(row["parameters"] for row in rows) == sum(p.numel() for p in family.module.parameters())
    for p in family.module.parameters():
        p.requires_grad_(True)
    with pytest.raises(GovorError, match=r"no parameter group 'encodr'; did you mean 'encoder'"):
        assign(parts, {"encodr": 1e-5})
    with pytest.raises(GovorError, match=r"'decoder.top9' asks for 9 layers and the decoder has 4"):
        assign(parts, {"decoder.top9": 1e-5})


def test_a_group_of_nothing_is_said_to_hold_nothing() -> None:
    with pytest.raises(GovorError, match="The group 'all' holds nothing: the family names no parameter"):
        assign({}, {"all": 1e-4})
    with pytest.raises(GovorError, match="holds nothing beside b; drop one"):
        assign({"a.b": ["x"], "b": ["x"]}, {"a": 1e-4, "b": 1e-4})


def test_whispers_sinusoids_never_train() -> None:
    family = tiny()
    (everything,) = assign(family.parts(), {"all": 1e-5})
    left = {name for name, _ in family.module.named_parameters()} - set(everything.parameters)
    assert left == {"model.encoder.embed_positions.weight"}


def test_what_trains_on_keeps_its_moments_and_what_is_new_has_none() -> None:
    family = tiny()
    parts = family.parts()
    first = assign(parts, {"decoder": 1e-3, "head": 1e-3})
    freeze_all_but(family.module, first)
    optimizer = build_optimizer(family.module, first, 0.01, 0.98)
    for parameter in family.module.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    set_rates(optimizer, 1.0)
    optimizer.step()
    second = assign(parts, {"encoder": 1e-4, "decoder": 5e-4})
    freeze_all_but(family.module, second)
    switched = build_optimizer(family.module, second, 0.01, 0.98, optimizer)
    named = dict(family.module.named_parameters())
    kept, new, gone = (named[parts[part][0]] for part in ("decoder.0", "encoder.0", "embeddings"))
    assert torch.equal(switched.state[kept]["exp_avg"], optimizer.state[kept]["exp_avg"])
    assert float(switched.state[kept]["step"]) == 1.0
    assert new not in switched.state and gone not in switched.state
    assert set_rates(switched, 0.5) == {"encoder": 5e-5, "decoder": 2.5e-4}


def two_phases(workspace: Path, base: Path, name: str, **finetune: object) -> Path:
    split = make_split(workspace)
    return toy_recipe(
        split,
        base,
        workspace / f"{name}.yaml",
        finetune={
            "phases": [
                {"name": "B", "epochs": 1, "groups": {"decoder.top1": 1e-3, "head": 2e-3}, "warmup_steps": 0},
                {"name": "A", "epochs": 1, "groups": {"encoder.top1": 5e-4, "decoder": 1e-3}, "schedule": "cosine"},
            ],
            **finetune,
        },
    )


def test_a_switch_of_phases_trains_what_it_says_and_nothing_else(workspace: Path, tiny_folder: Path) -> None:
    from safetensors.torch import load_file

    reporter = Silent()
    finished = train(Workspace(), recipes.load(str(two_phases(workspace, tiny_folder, "two"))), reporter, device="cpu")
    steps = read_metrics(finished.run.folder, "train")
    assert [row["phase"] for row in steps] == ["B"] * 3 + ["A"] * 3
    assert [sorted(row["lr_by_group"]) for row in (steps[0], steps[5])] == [  # type: ignore[call-overload]
        ["decoder.top1", "head"],
        ["decoder", "encoder.top1"],
    ]
    base = load_file(tiny_folder / "model.safetensors")
    after_b = load_file(finished.run.folder / "checkpoints/step-000003/model.safetensors")
    after_a = load_file(finished.run.folder / "checkpoints/step-000006/model.safetensors")

    def changed(old: Any, new: Any) -> set[str]:
        return {".".join(name.split(".")[1:4]) for name in old if name in new and not torch.equal(old[name], new[name])}

    assert changed(base, after_b) == {"decoder.layers.1", "decoder.layer_norm.weight", "decoder.layer_norm.bias"} | {
        "decoder.embed_tokens.weight"
    }
    assert "encoder.layers.1" in changed(after_b, after_a) and "encoder.layers.0" not in changed(after_b, after_a)
    assert "decoder.layers.0" in changed(after_b, after_a)
    assert "decoder.embed_tokens.weight" not in changed(after_b, after_a)
    saved = json.loads((finished.run.folder / "run_manifest.json").read_text())["phases"]
    assert saved["A"]["steps"] == [3, 6] and saved["A"]["schedule"] == "cosine"
    assert saved["B"]["groups"] == reporter.tables[1][1], "the table that was printed"
    titles = [title for title, _ in reporter.tables]
    assert [title.split(":")[0] for title in titles[1:]] == ["phase B", "phase A"]
    assert {row["group"] for row in reporter.tables[1][1]} == {"decoder.top1", "head", "(frozen)"}


@pytest.mark.parametrize("last", [3, 4])
def test_resuming_at_and_after_a_switch_gives_the_same_losses(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """Stopped after the last step of the first phase, and after the first of the second."""
    file = str(two_phases(workspace, tiny_folder, "two", dropout=0.1))
    settings = ["evaluation.evaluations=6"]
    whole = train(Workspace(), recipes.load(file, settings), Silent(), device="cpu")
    plain = Trainer._train_step

    def stopping(self: Trainer, step: Any, *rest: Any) -> Any:
        if step.number == last:
            raise KeyboardInterrupt
        return plain(self, step, *rest)

    cut = recipes.load(file, [*settings, "name=cut"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_train_step", stopping)
        train(Workspace(), cut, Silent(), device="cpu")
    resumed = train(Workspace(), cut, Silent(), resume=True, device="cpu")
    losses = [[row["loss"] for row in read_metrics(run, "train")] for run in (whole.run.folder, resumed.run.folder)]
    assert losses[0] == losses[1]


def settings_of(workspace: Path, base: Path, **sections: Any) -> str:
    return str(toy_recipe(make_split(workspace), base, workspace / "toy.yaml", **sections))


def test_phases_that_max_steps_never_reaches_are_named(workspace: Path, tiny_folder: Path) -> None:
    phases = [{"name": "one", "epochs": 1}, {"name": "two", "epochs": 1}]
    reporter = Silent()
    file = settings_of(workspace, tiny_folder, finetune={"phases": phases, "max_steps": 2})
    train(Workspace(), recipes.load(file), reporter, device="cpu")
    assert "warning: finetune.max_steps ends the run before phase two" in reporter.notes
