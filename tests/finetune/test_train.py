"""What a second reader broke once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import Silent, make_split, read_metrics, toy_recipe, with_context
from govor import recipe as recipes
from govor.corpus.manifests import Manifest, write_clips
from govor.corpus.records import Segment
from govor.errors import GovorError
from govor.examples.mixing import Mixture
from govor.families.opening import open_model
from govor.families.whisper.tiny import tiny
from govor.finetune.average import average_run
from govor.finetune.loop import Trainer
from govor.finetune.repeat import check_repeatable
from govor.finetune.train import train
from govor.finetune.validation import Validation
from govor.package.build import package
from govor.runs import Workspace

WEIGHTS = "model.decoder.layers.0.fc1.weight"


def settings_of(workspace: Path, base: Path, **sections: Any) -> str:
    return str(toy_recipe(make_split(workspace), base, workspace / "toy.yaml", **sections))


def killed(file: str, settings: list[str], step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until `step` steps are done, then die."""
    plain = Trainer._train_step

    def dying(self: Trainer, item: Any, *rest: Any) -> Any:
        if item.number == step:
            raise KeyboardInterrupt
        return plain(self, item, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_train_step", dying)
        train(Workspace(), recipes.load(file, settings), Silent(), device="cpu")


@pytest.fixture
def losses_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the evaluations of a run give these losses."""

    def script(*losses: float) -> None:
        waiting = [9.0, *losses]
        monkeypatch.setattr(Validation, "measure", lambda *_, **__: {"loss": waiting.pop(0), "wer": None, "cer": None})

    return script


def test_an_old_run_survives_a_new_one_that_cannot_begin(workspace: Path, tiny_folder: Path) -> None:
    file = settings_of(workspace, tiny_folder)
    old = train(Workspace(), recipes.load(file), Silent(), device="cpu")
    before = sorted(path.relative_to(old.run.folder) for path in old.run.folder.rglob("*"))
    (workspace / "bad.yaml").write_text("noise: {probability: 0.5, folder: nothing-here}\n")
    for settings in (["examples.augment=nope.yaml"], ["examples.augment=bad.yaml"], ["finetune.groups={x: 1e-4}"]):
        with pytest.raises(GovorError):
            train(Workspace(), recipes.load(file, settings), Silent(), overwrite=True, device="cpu")
        assert sorted(path.relative_to(old.run.folder) for path in old.run.folder.rglob("*")) == before
    assert not list(Path("models/whisper").glob(".*"))


def test_a_tracker_that_does_not_start_brings_the_old_run_back(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from govor.finetune import logging_callbacks, session

    file = settings_of(workspace, tiny_folder)
    old = train(Workspace(), recipes.load(file), Silent(), device="cpu")
    record = (old.run.folder / "run_manifest.json").read_bytes()

    def failing(*_: Any, **__: Any) -> Any:
        raise GovorError("it does not start")

    monkeypatch.setattr(session, "check_installed", lambda _: None)
    monkeypatch.setattr(logging_callbacks, "Trackers", failing)
    with pytest.raises(GovorError, match="does not start"):
        train(Workspace(), recipes.load(file, ["tracking.to=[tensorboard]"]), Silent(), overwrite=True, device="cpu")
    assert (old.run.folder / "run_manifest.json").read_bytes() == record


def test_resuming_on_another_base_model_is_refused(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny().save(tmp_path / "base")
    file = settings_of(workspace, tmp_path / "base", finetune={"method": "lora"})
    killed(file, ["evaluation.evaluations=6"], 4, monkeypatch)
    kept = (Path("models/whisper/toy") / "base_model.json").read_text()
    shutil.rmtree(tmp_path / "base")
    tiny(seed=7).save(tmp_path / "base")
    with pytest.raises(GovorError, match="has changed since"):
        train(Workspace(), recipes.load(file, ["evaluation.evaluations=6"]), Silent(), resume=True, device="cpu")
    assert (Path("models/whisper/toy") / "base_model.json").read_text() == kept


def test_augmentation_settings_are_part_of_a_run(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = workspace / "augment.yaml"
    settings.write_text("gain: {probability: 0.5}\n")
    file = settings_of(workspace, tiny_folder, examples={"augment": "augment.yaml"})
    killed(file, ["evaluation.evaluations=6", "name=cut"], 4, monkeypatch)
    whole = train(Workspace(), recipes.load(file), Silent(), device="cpu")
    settings.write_text("gain: {probability: 0.9}\n")
    with pytest.raises(GovorError, match=r"the settings in augment\.yaml have changed"):
        train(
            Workspace(),
            recipes.load(file, ["evaluation.evaluations=6", "name=cut"]),
            Silent(),
            resume=True,
            device="cpu",
        )
    with pytest.raises(GovorError, match="is not what toy was trained with"):
        check_repeatable(Workspace(), whole.run.folder / "run_manifest.json", recipes.load(file))


def test_a_source_named_like_a_language_keeps_its_own_figures(workspace: Path, tiny_folder: Path) -> None:
    import yaml

    one, two = make_split(workspace, name="en"), make_split(workspace, train=8, name="songs")
    # Every fourth row of the second source is in another language.
    for part in ("train", "validation"):
        rows = list(Manifest(two / f"{part}.jsonl"))
        write_clips(two / f"{part}.jsonl", [c.replace(language="cs" if i % 4 else "en") for i, c in enumerate(rows)])
    file = toy_recipe(one, tiny_folder, workspace / "toy.yaml")
    values = yaml.safe_load(file.read_text())
    values["data"] = {"sources": {"en": {"split": str(one)}, "songs": {"split": str(two)}}}
    file.write_text(yaml.safe_dump(values))
    finished = train(Workspace(), recipes.load(str(file)), Silent(), device="cpu")
    row = read_metrics(finished.run.folder, "eval")[-1]
    assert {"loss.en", "loss.songs", "loss.lang-en", "loss.lang-cs"} <= row.keys()
    assert len({row["loss.en"], row["loss.lang-en"], row["loss"]}) == 3


def test_an_average_takes_the_best_by_loss_and_no_others(workspace: Path, tiny_folder: Path, losses_of: Any) -> None:
    file = settings_of(workspace, tiny_folder, finetune={"epochs": 4}, evaluation={"evaluations": 12, "average": 5})
    losses_of(5, 4, 3, 2, 1, 1.1, 1.2, 1.3, 1.4, 6, 7, 8, 0.5)
    finished = train(Workspace(), recipes.load(file), Silent(), device="cpu")
    result = json.loads((finished.run.folder / "average.json").read_text())
    assert [member["checkpoint"] for member in result["members"]] == [f"step-{n:06d}" for n in (5, 6, 7, 8, 9)]
    diagnosis = json.loads((finished.run.folder / "diagnosis.json").read_text())
    assert diagnosis["checkpoint"] == "average-5"
    assert diagnosis["why"].startswith("the mean of 5 checkpoints has a validation loss of 0.5000, the best single")
    checks = package(finished.run, ["hf"], None)
    assert checks.checkpoint == "average-5"
    card = (finished.run.folder / "README.md").read_text()
    assert "the mean of several checkpoints was taken: step-000005" in card
    package(finished.run, ["hf"], "step-000006")
    assert "step-000006 was taken by hand" in (finished.run.folder / "README.md").read_text()


def test_averaging_later_takes_what_is_kept_and_never_unships_a_better_one(
    workspace: Path, tiny_folder: Path, losses_of: Any
) -> None:
    file = settings_of(workspace, tiny_folder, finetune={"epochs": 2}, evaluation={"evaluations": 6})
    losses_of(5, 4, 3, 2, 2.5, 2.6, 1.0, 1.5)
    run = train(Workspace(), recipes.load(file), Silent(), device="cpu").run
    told = Silent()
    assert average_run(run, 5, "cpu", told)["shipped"] == "average-3"
    assert any("5 were asked for, and the best 3 by loss are kept" in text for text in told.notes)
    assert average_run(run, 2, "cpu", told)["shipped"] == "average-3", "1.5 is worse than 1.0"
    assert json.loads((run.checkpoints / "best.json").read_text()) == {
        "checkpoint": "average-3",
        "metric": "loss",
        "value": 1.0,
    }
    assert json.loads((run.folder / "diagnosis.json").read_text())["checkpoint"] == "average-3"
    split = Path(recipes.load(file).data.split or "")
    write_clips(split / "validation.jsonl", list(Manifest(split / "validation.jsonl"))[:2])
    with pytest.raises(GovorError, match="is not the manifest that toy was trained on"):
        average_run(run, 3, "cpu", told)


def test_the_checkpoint_before_the_newest_can_be_resumed_from(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settings_of(workspace, tiny_folder, finetune={"epochs": 3})
    settings = ["evaluation.evaluations=9"]
    whole = train(Workspace(), recipes.load(file, [*settings, "name=whole"]), Silent(), device="cpu")
    killed(file, settings, 7, monkeypatch)
    checkpoints = Path("models/whisper/toy/checkpoints")
    (checkpoints / "step-000007/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(GovorError, match="delete it to go on from the one before"):
        train(Workspace(), recipes.load(file, settings), Silent(), resume=True, device="cpu")
    shutil.rmtree(checkpoints / "step-000007")
    resumed = train(Workspace(), recipes.load(file, settings), Silent(), resume=True, device="cpu")
    losses = [[row["loss"] for row in read_metrics(run, "train")] for run in (whole.run.folder, resumed.run.folder)]
    assert losses[0] == losses[1]


def test_a_grouped_token_serves_languages_that_whisper_lacks(
    workspace: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split(workspace)
    for part in ("train", "validation"):
        rows = list(Manifest(split / f"{part}.jsonl"))
        write_clips(split / f"{part}.jsonl", [clip.replace(language="cnr") for clip in rows])
    file = str(toy_recipe(split, tiny_folder, workspace / "toy.yaml", examples={"language": "hr"}))
    killed(file, ["name=cut"], 4, monkeypatch)
    opened = open_model("models/whisper/cut")
    assert (opened.language, opened.context, opened.language_token) == ("hr", "speech", "hr"), "also before the end"
    run = train(Workspace(), recipes.load(file), Silent(), device="cpu").run
    assert package(run, ["hf", "ct2"], None).checks["ct2"]["same_text"] == 4
    assert "one language token for all clips: hr" in (run.folder / "README.md").read_text()


def test_rows_that_are_always_taught_with_times_are_checked_with_them(workspace: Path, tiny_folder: Path) -> None:
    split = with_context(make_split(workspace))
    rows = list(Manifest(split / "train.jsonl"))
    cut = (*(Segment(0.1 * i, 0.1 * i + 0.1, "ab") for i in range(100)), Segment(10.0, None, ""))
    for segments in (cut, (Segment(0.0, 1.0, "x" * 460), Segment(1.0, None, ""))):
        write_clips(split / "train.jsonl", [*rows[:-1], rows[-1].replace(segments=segments)])
        with pytest.raises(GovorError, match="tokens and Whisper's decoder holds 448"):
            train(
                Workspace(),
                recipes.load(str(toy_recipe(split, tiny_folder, workspace / "toy.yaml"))),
                Silent(),
                device="cpu",
            )
        assert not Path("models").exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["finetune.groups={encoder: true}"], "a number was wanted"),
        (["finetune.groups={}"], "at least 1 item"),
        (["finetune.groups={head: 1e-4, embeddings: 1e-4}"], "holds nothing beside"),
        (["finetune.phases=[{name: a, epochs: 1, lr: 1e-4, groups: {all: 1e-4}}]"], "has both lr and groups"),
        (
            ["finetune.groups={decoder: 1e-4}", "finetune.phases=[{name: a, epochs: 1, lr: 1e-4}]"],
            "give the phase groups of its own",
        ),
        (["finetune.method=lora", "finetune.lora.targets=[]"], "at least 1 item"),
        (["finetune.method=lora", "finetune.lora.targets=[embeddings]"], "no linear layer in embeddings"),
        (["finetune.seed=99999999999999999999"], "less than"),
        (["tracking.to=[tensorboard, tensorboard]"], "a tracker is named twice"),
        (["finetune.epochs=10000", "finetune.clips_per_step=1", "data.split=null", "data.epoch=b",
          "data.sources={a: {split: manifests/splits/toy, weight: 1}, b: {split: manifests/splits/toy, weight: 1e-300}}"],
         r"would take .* steps"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(settings: list[str], sentence: str, workspace: Path, tiny_folder: Path) -> None:
    file = settings_of(workspace, tiny_folder)
    with pytest.raises(GovorError, match=sentence):
        train(Workspace(), recipes.load(file, settings), Silent(), device="cpu")
    assert not Path("models").exists()


def test_unscored_rows_are_not_the_best_ones(workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    rows = list(Manifest(split / "train.jsonl"))
    write_clips(split / "train.jsonl", [*rows[:-2], *(clip.replace(quality_score=0.1) for clip in rows[-2:])])
    file = str(toy_recipe(split, tiny_folder, workspace / "toy.yaml"))
    settings = ["data.split=null", f"data.sources={{a: {{split: {split}, best_hours: 10}}}}"]
    reporter = Silent()
    train(Workspace(), recipes.load(file, settings), reporter, device="cpu")
    assert "a: 10 rows left out (no quality_score)" in reporter.notes


def test_a_validation_loss_that_is_no_number_is_one_sentence(
    workspace: Path, tiny_folder: Path, losses_of: Any
) -> None:
    losses_of(5, float("nan"))
    with pytest.raises(GovorError, match="The validation loss at step 6 is nan"):
        train(Workspace(), recipes.load(settings_of(workspace, tiny_folder)), Silent(), device="cpu")
    assert Path("models/whisper/toy/checkpoints/step-000003/state.json").exists()


@pytest.mark.parametrize("weights", [(1.0, 1e-17, 1e-17), (1e308, 1e308), (1e-300, 1.0), (5e-324, 5e-324, 1.0)])
def test_extreme_weights_mix_all_the_same(weights: tuple[float, ...]) -> None:
    mixture = Mixture(tuple(3 for _ in weights), weights)
    assert sum(mixture.counts(1000)) == 1000
    assert all(0 <= mixture.row(0, draw) < 3 * len(weights) for draw in range(100))


def test_many_sources_do_not_make_a_draw_dear() -> None:
    from govor.examples import mixing

    made = []
    plain = mixing.np.random.default_rng
    mixture = Mixture(tuple(1000 for _ in range(40)), tuple(1.0 for _ in range(40)))
    mixing._orders.clear()
    try:
        mixing.np.random.default_rng = lambda *a: made.append(a) or plain(*a)  # type: ignore[method-assign, assignment]
        for draw in range(4000):
            mixture.row(0, draw)
    finally:
        mixing.np.random.default_rng = plain  # type: ignore[method-assign]
    assert len(made) == 40, "one order a source"


def test_phases_that_max_steps_never_reaches_are_named(workspace: Path, tiny_folder: Path) -> None:
    phases = [{"name": "one", "epochs": 1}, {"name": "two", "epochs": 1}]
    reporter = Silent()
    file = settings_of(workspace, tiny_folder, finetune={"phases": phases, "max_steps": 2})
    train(Workspace(), recipes.load(file), reporter, device="cpu")
    assert "warning: finetune.max_steps ends the run before phase two" in reporter.notes
