"""What the loop promises: batching, accumulation and devices change nothing but rounding; a batch is learned."""

import json
import math
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from conftest import Silent, make_split, read_metrics, recipe_of, toy_recipe, trained, transcribe_clips
from govor import recipe as recipes
from govor.corpus.manifests import Manifest
from govor.errors import GovorError
from govor.examples.batching import Plan
from govor.examples.dataset import Choices, TrainingSource
from govor.examples.features import CachedSilence, FullLength
from govor.examples.mixing import Mixture
from govor.examples.phases import Phase
from govor.examples.settings import Contexts, Examples
from govor.families.whisper.model import Whisper
from govor.families.whisper.tiny import tiny
from govor.finetune.loop import StepRecord, Trainer
from govor.finetune.objective import CrossEntropy, Objective, objective_of
from govor.finetune.optim import lr_factor
from govor.finetune.phases import even_steps, phases_of
from govor.finetune.train import train
from govor.metrics.metric import Metric
from govor.recipe import Data, Finetune, Recipe
from govor.runs import Run, Workspace


def run_steps(
    split: Path,
    steps: int,
    budget: float,
    whisper: Whisper | None = None,
    precision: str = "fp32",
    objective: Objective | None = None,
    **settings: Any,
) -> tuple[list[StepRecord], Trainer]:
    family = whisper or tiny()
    values = {"clips_per_step": 8, "lr": 1e-3, "warmup_steps": 0, "loader_workers": 0, **settings}
    finetune = Finetune(max_batch_audio_seconds=budget, **values)
    source = TrainingSource([Manifest(split / "train.jsonl")], family.renderer, 0)
    plan = Plan(source, 0, finetune.clips_per_step, budget)
    recipe = Recipe(name="loop", base_model="-", data=Data(split=str(split)), finetune=finetune)
    planned = phases_of(
        recipe.model_copy(update={"finetune": finetune.model_copy(update={"epochs": 9999})}), [len(source)]
    )
    planned = [replace(planned[0], steps=steps, warmup_steps=finetune.warmup_steps or 0)]
    trainer = Trainer(family, plan, finetune, planned, Accelerator(cpu=True), precision, objective)
    return list(trainer.steps(0)), trainer


def test_accumulation_1x8_equals_4x2_with_unequal_lengths(workspace: Path) -> None:
    split = make_split(workspace)
    whole, one = run_steps(split, 3, budget=1000.0)
    parts, many = run_steps(split, 3, budget=2.6)
    assert {record.micro_batches for record in whole} == {1}
    assert min(record.micro_batches for record in parts) >= 4
    tokens = {int(record.tokens) for record in whole}
    assert len(tokens) > 1, "steps of unequal token counts"
    for a, b in zip(whole, parts, strict=True):
        assert a.tokens == b.tokens
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)
    for left, right in zip(one.family.module.parameters(), many.family.module.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=2e-4, rtol=1e-3)


def test_the_loss_is_the_mean_over_tokens_and_not_over_batches(workspace: Path) -> None:
    split = make_split(workspace)
    (record,), _ = run_steps(split, 1, budget=2.6)
    family = tiny()
    source = TrainingSource([Manifest(split / "train.jsonl")], family.renderer, 0)
    plan = Plan(source, 0, 8, 1000.0)
    from govor.examples.dataset import load_batch

    loss, weight = family.loss(load_batch(plan.step(0)[0].specs, family.renderer))
    assert record.loss == pytest.approx(float((loss / weight).detach()), rel=1e-5)
    assert record.tokens == int(weight)


def test_out_of_memory_halves_the_micro_batch_and_changes_no_loss(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split(workspace)
    wanted, _ = run_steps(split, 3, budget=1000.0)
    family = tiny()
    plain = family.loss

    def small_memory(batch: dict[str, Any], **options: Any) -> Any:
        if len(batch["mels"]) > 2:
            raise torch.OutOfMemoryError("injected")
        return plain(batch, **options)

    monkeypatch.setattr(family, "loss", small_memory)
    records, trainer = run_steps(split, 3, budget=1000.0, whisper=family)
    assert trainer.halvings == 2
    assert [record.micro_batches for record in records] == [4, 4, 4]
    assert [record.loss for record in records] == pytest.approx([record.loss for record in wanted], rel=1e-4)


def test_256_clips_a_step_stay_256_through_halving(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = make_split(workspace)
    (whole,), _ = run_steps(split, 1, budget=20.0, clips_per_step=256)
    family = tiny()
    plain = family.loss
    sizes: list[int] = []

    def small_memory(batch: dict[str, Any], **options: Any) -> Any:
        if len(batch["mels"]) > 5:
            raise torch.OutOfMemoryError("injected")
        sizes.append(len(batch["mels"]))
        return plain(batch, **options)

    monkeypatch.setattr(family, "loss", small_memory)
    (record,), trainer = run_steps(split, 1, budget=20.0, whisper=family, clips_per_step=256)
    assert whole.drawn["clips"] == record.drawn["clips"] == 256
    assert sum(sizes[-record.micro_batches :]) == 256 and max(sizes) <= 5 and trainer.halvings >= 2
    assert (record.tokens, record.loss) == (whole.tokens, pytest.approx(whole.loss, rel=1e-5))
    assert record.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)


def test_a_batch_is_learned_and_transcribed_back(workspace: Path) -> None:
    split = make_split(workspace, train=4, held_out=2)
    records, trainer = run_steps(
        split, 300, budget=100.0, clips_per_step=4, lr=3e-3, warmup_steps=10, max_grad_norm=5.0
    )
    assert records[-1].loss < 0.02 < records[0].loss
    family = trainer.family
    family.module.eval()
    assert isinstance(family, Whisper)
    rows = transcribe_clips(family, list(Manifest(split / "train.jsonl")), "speech")
    assert [row["hypothesis"] for row in rows] == [row["reference"] for row in rows]


def test_a_non_finite_step_stops_before_the_update(workspace: Path) -> None:
    split = make_split(workspace)
    family = tiny()
    before = {name: value.clone() for name, value in family.module.state_dict().items()}
    plain = family.loss
    family.loss = lambda batch, **_: tuple(
        part * float("nan") if i == 0 else part for i, part in enumerate(plain(batch))
    )  # type: ignore[method-assign, assignment]
    with pytest.raises(GovorError, match="no numbers; the update was not made"):
        run_steps(split, 1, budget=100.0, whisper=family)
    for name, value in family.module.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_rate_rises_to_its_peak_and_decays(schedule: Any) -> None:
    factors = [lr_factor(step, 100, 10, schedule) for step in range(100)]
    assert factors[:10] == sorted(factors[:10]) and 0 < factors[0] < 0.1 + 1e-9
    assert max(factors) == factors[10] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    if schedule != "constant":
        assert factors[-1] < 0.02
        assert lr_factor(55, 100, 10, schedule) == pytest.approx(0.5)


def test_evaluations_are_spread_and_the_last_is_at_the_end() -> None:
    def one(steps: int) -> list[Phase]:
        return [Phase("train", 0, steps, Mixture((10,), (1.0,)), rates={"all": 1e-5})]

    assert even_steps(one(100), 20) == set(range(5, 101, 5))
    assert even_steps(one(3), 20) == {1, 2, 3}
    assert max(even_steps(one(97), 20)) == 97 and len(even_steps(one(97), 20)) == 20


def test_full_length_share_is_honoured(workspace: Path) -> None:
    split = make_split(workspace)
    family = tiny()
    choices = Choices(features=(FullLength(),), probabilities=((0, {"full_length": 0.25}),))
    source = TrainingSource([Manifest(split / "train.jsonl")], family.renderer, 0, choices)
    full = sum(source.spec(draw % 12, draw).full_length for draw in range(2000))
    assert 0.2 < full / 2000 < 0.3


def test_activation_checkpointing_changes_no_loss_before_silence(workspace: Path) -> None:
    split = make_split(workspace)
    losses = []
    for checkpointing in (False, True):
        _, trainer = run_steps(split, 1, budget=1000.0, activation_checkpointing=checkpointing)
        family = trainer.family
        assert isinstance(family, Whisper)
        family.module.train()
        family.refresh()
        mels = [torch.randn(80, frames, generator=torch.Generator().manual_seed(frames)) for frames in (200, 300)]
        inputs = torch.arange(12).view(2, 6)
        loss, _ = family.loss({"mels": mels, "inputs": inputs, "targets": inputs, "levels": torch.tensor([-0.5, -1.0])})
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = family.model.model.encoder.layers[0].fc1.weight.grad
        losses.append((loss.item(), gradient))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)
    torch.testing.assert_close(losses[0][1], losses[1][1], atol=1e-6, rtol=1e-5)


def test_the_share_of_cached_examples_is_honoured_beside_padded_ones(workspace: Path) -> None:
    split = make_split(workspace)
    family = tiny()
    wanted = Examples(contexts=Contexts(speech=0.3, cached=0.5, padded=0.2))
    probabilities = {f.name: f.chance(wanted, [1.0], [0.0], [1.0]).probability for f in (FullLength(), CachedSilence())}  # type: ignore[union-attr]
    choices = Choices(features=(FullLength(), CachedSilence()), probabilities=((0, probabilities),))
    source = TrainingSource([Manifest(split / "train.jsonl")], family.renderer, 0, choices)
    drawn = [source.spec(draw % 12, draw) for draw in range(4000)]
    assert not any(spec.full_length and spec.cached for spec in drawn)
    assert sum(spec.cached for spec in drawn) / 4000 == pytest.approx(0.5, abs=0.03)
    assert sum(spec.full_length for spec in drawn) / 4000 == pytest.approx(0.2, abs=0.03)


def test_bf16_trains_close_to_fp32(workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    losses = {}
    for precision in ("fp32", "bf16"):
        file = toy_recipe(split, tiny_folder, workspace / f"{precision}.yaml", finetune={"precision": precision})
        recipe = recipes.load(str(file), [f"name={precision}"])
        finished = train(Workspace(), recipe, Silent(), device="cpu")
        losses[precision] = [row["loss"] for row in read_metrics(finished.run.folder, "train")]
    assert losses["fp32"] != losses["bf16"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


def test_the_record_of_a_run_is_complete(workspace: Path, tiny_folder: Path) -> None:
    import json

    split = make_split(workspace)
    recipe = recipes.load(str(toy_recipe(split, tiny_folder, workspace / "toy.yaml")))
    finished = train(Workspace(), recipe, Silent(), device="cpu")
    record = json.loads((finished.run.folder / "run_manifest.json").read_text())
    assert record["data"]["toy/train"]["rows"] == 12 and len(record["data"]["toy/train"]["sha256"]) == 64
    assert record["recipe"] == recipe.model_dump(mode="json")
    assert record["environment"]["packages"]["torch"] == torch.__version__
    steps = read_metrics(finished.run.folder, "train")
    assert [row["step"] for row in steps] == list(range(1, finished.total_steps + 1))
    evals = read_metrics(finished.run.folder, "eval")
    assert [row["step"] for row in evals] == [0, 3, 6]
    assert evals[-1]["loss"] < evals[0]["loss"]  # type: ignore[operator]
    log = [json.loads(line) for line in Path("logs/training/toy.log").read_text().splitlines()]
    assert len({row["request_id"] for row in log}) == 1
    fields = {"timestamp", "step", "loss", "lr", "gpu_utilization", "memory_mb", "request_id", "stage"}
    assert all(fields <= row.keys() for row in log if row["message"] == "step")
    assert not any(math.isnan(row["loss"]) for row in log if row["message"] == "step")


def test_fp16_halves_its_scale_where_gradients_overflow_and_does_the_step_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split(workspace)
    wanted, _ = run_steps(split, 3, budget=1000.0)
    family = tiny()
    plain = family.loss
    scales: list[float] = []

    def overflowing(batch: dict[str, Any], **options: Any) -> Any:
        loss, weight = plain(batch, **options)
        # What fp16 does when scaled gradients exceed 65,504: they become infinite, while the loss itself is fine.
        loss.register_hook(lambda gradient: scales.append(float(gradient)) or _overflown(gradient, 2.0**4))
        return loss, weight

    monkeypatch.setattr(family, "loss", overflowing)
    records, trainer = run_steps(split, 3, budget=1000.0, whisper=family, precision="fp16")
    assert scales[:14] == [2.0**power for power in (*range(16, 3, -1), 4)], "halved within the first step, then kept"
    assert trainer.loss_scale == 2.0**4 and trainer.good_steps == 3
    assert [record.loss for record in records] == pytest.approx([record.loss for record in wanted], rel=0.02)


def _overflown(gradient: torch.Tensor, most: float) -> torch.Tensor:
    return gradient if float(gradient) <= most else gradient * float("inf")


def test_label_smoothing_is_for_training_and_not_for_validation(workspace: Path) -> None:
    split = make_split(workspace)
    plain, _ = run_steps(split, 1, budget=1000.0)
    smooth, trainer = run_steps(split, 1, budget=1000.0, label_smoothing=0.1)
    assert smooth[0].loss != plain[0].loss
    source = TrainingSource([Manifest(split / "train.jsonl")], trainer.family.renderer, 0)
    from govor.examples.dataset import load_batch

    batch = load_batch(Plan(source, 0, 8, 1000.0).step(0)[0].specs, trainer.family.renderer)
    logits = tiny().logits(batch)[batch["targets"] != -100].log_softmax(-1)
    taught = batch["targets"][batch["targets"] != -100]
    hit, spread = -logits.gather(1, taught[:, None]).mean(), -logits.mean()
    assert smooth[0].loss == pytest.approx(float((0.9 * hit + 0.1 * spread).detach()), rel=1e-5)


def test_an_objective_is_handed_to_the_trainer(workspace: Path) -> None:
    split = make_split(workspace)
    (plain,), _ = run_steps(split, 1, budget=1000.0)

    def doubled(family: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        loss, weight = family.loss(batch)
        return 2 * loss, weight

    (record,), trainer = run_steps(split, 1, budget=1000.0, objective=doubled)
    assert trainer.objective is doubled
    assert record.loss == pytest.approx(2 * plain.loss, rel=1e-6) and record.tokens == plain.tokens
    assert record.grad_norm == pytest.approx(2 * plain.grad_norm, rel=1e-5)


def test_what_is_minimised_follows_the_settings(workspace: Path) -> None:
    _, trainer = run_steps(make_split(workspace), 1, budget=1000.0, label_smoothing=0.1)
    assert trainer.objective == objective_of(trainer.settings) == CrossEntropy(0.1)


def test_activation_checkpointing_changes_no_loss(workspace: Path) -> None:
    split = make_split(workspace)
    plain, one = run_steps(split, 3, budget=1000.0)
    again, other = run_steps(split, 3, budget=1000.0, activation_checkpointing=True)
    assert [record.loss for record in again] == pytest.approx([record.loss for record in plain], rel=1e-6)
    for left, right in zip(one.family.module.parameters(), other.family.module.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-5)


def test_stopping_early_keeps_the_best_and_says_so(workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    evaluation = {"evaluations": 12, "patience": 2, "min_gain": 100.0}
    reporter = Silent()
    file = toy_recipe(split, tiny_folder, workspace / "toy.yaml", finetune={"epochs": 4}, evaluation=evaluation)
    finished = train(Workspace(), recipes.load(str(file)), reporter, device="cpu")
    assert len(read_metrics(finished.run.folder, "eval")) == 4, "before training, a first value, two without a gain"
    assert any("stopped at step 3: no better validation loss in 2 evaluations" in note for note in reporter.notes)
    assert finished.metrics["steps_done"] == 3 and finished.metrics["total_steps"] == 12
    (finished.run.folder / "run_manifest.json").unlink()  # as if killed before it was written
    again = train(Workspace(), recipes.load(str(file)), Silent(), resume=True, device="cpu")
    assert again.metrics["steps_done"] == 3 and again.best == finished.best, "a run that has given up does not go on"


def test_checkpoints_are_kept_by_metric_by_loss_and_the_last(tmp_path: Path) -> None:
    import json

    from govor.finetune.checkpoints import prune

    run = Run(tmp_path)
    losses = [5.0, 4.0, 3.0, 3.5, 3.6, 3.7, 4.5, 4.6]
    wers = [0.9, 0.8, 0.7, 0.6, 0.5, 0.55, 0.4, 0.45]
    for index, (loss, wer) in enumerate(zip(losses, wers, strict=True), start=1):
        folder = run.checkpoints / f"step-{index:06d}"
        folder.mkdir(parents=True)
        (folder / "optimizer.safetensors").touch()
        (folder / "state.json").write_text(json.dumps({"step": index, "metrics": {"loss": loss, "wer": wer}}))
        prune(run, Metric("wer", "lower"), 2)
    kept = sorted(int(path.name[-6:]) for path in run.checkpoints.glob("step-*"))
    assert kept == [3, 4, 5, 7, 8], "7 and 8 by WER, 3 to 5 by loss, 8 the last"
    resumable = sorted(int(path.parent.name[-6:]) for path in run.checkpoints.glob("step-*/optimizer.safetensors"))
    assert resumable == [7, 8]
    assert json.loads((run.checkpoints / "best.json").read_text())["checkpoint"] == "step-000007"


Govor = Callable[..., subprocess.CompletedProcess[str]]


FINETUNE = {"clips_per_step": 4, "epochs": 2, "lr": 1e-3, "precision": "fp32", "loader_workers": 0}


def spoil(manifest: Path, row: int) -> str:
    clip = [json.loads(line) for line in manifest.read_text().splitlines()][row]
    Path(clip["audio"]).write_bytes(b"no audio at all")
    return str(clip["id"])


def test_a_clip_that_cannot_be_read_is_left_out_and_listed(workspace: Path, tiny_folder: Path, govor: Govor) -> None:
    file = recipe_of(workspace, tiny_folder)
    split = workspace / "manifests/splits/toy"
    bad = {spoil(split / "train.jsonl", 5), spoil(split / "validation.jsonl", 1)}
    done = govor(
        "train", file, "--device", "cpu", "--json", "--set", "evaluation.decode_clips=4", "--set",
        "finetune.loader_workers=1", expect=1,
    )  # fmt: skip
    run = workspace / "models/whisper/toy"
    rows = [json.loads(line) for line in (run / "dropped.jsonl").read_text().splitlines()]
    assert {row["row"]["id"] for row in rows} == bad and len(rows) == 2
    assert all(row["rule"] and row["message"] for row in rows)
    assert json.loads(done.stdout)["unreadable_clips"] == 2 and "2 clips could not be read" in done.stderr
    whole = [row["tokens"] for row in read_metrics(run, "train")]
    assert len(whole) == 6
    # The tokens that are taught are those of the other clips of the step, and so is the loss.
    (workspace / "other").mkdir()
    assert sum(int(str(tokens)) for tokens in whole) < sum(tokens_of_a_whole_run(workspace, tiny_folder))


def tokens_of_a_whole_run(workspace: Path, tiny_folder: Path) -> list[int]:
    other = workspace / "other"
    before = Path.cwd()
    os.chdir(other)
    try:
        file = toy_recipe(make_split(other), tiny_folder, other / "toy.yaml")
        run, _ = trained(file)
        return [int(str(row["tokens"])) for row in read_metrics(run, "train")]
    finally:
        os.chdir(before)


def test_a_step_without_a_readable_clip_changes_nothing(workspace: Path, tiny_folder: Path) -> None:
    file = recipe_of(workspace, tiny_folder, finetune={**FINETUNE, "clips_per_step": 1, "max_steps": 12})
    spoil(workspace / "manifests/splits/toy/train.jsonl", 5)
    run, _ = trained(file)
    steps = [row["step"] for row in read_metrics(run, "train")]
    assert len(steps) == 11 and (run / "run_manifest.json").exists()


def test_audio_that_is_gone_altogether_ends_the_run(workspace: Path, tiny_folder: Path) -> None:
    file = recipe_of(workspace, tiny_folder)
    for row in range(12):
        spoil(workspace / "manifests/splits/toy/train.jsonl", row)
    with pytest.raises(GovorError, match="None of 12 sampled training clips can be read"):
        trained(file)
    assert not (workspace / "models").exists()
