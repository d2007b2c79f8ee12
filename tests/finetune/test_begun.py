"""Going on with a run: what may differ from how it was begun, and what is said and written down of it (T06)."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Silent, make_split, read_metrics, toy_recipe, trained
from govor import recipe as recipes
from govor import runs
from govor.errors import GovorError
from govor.families.whisper.tiny import tiny
from govor.finetune import resume
from govor.finetune.loop import Trainer
from govor.finetune.repeat import check_repeatable
from govor.finetune.train import train
from govor.runs import Workspace


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A workspace with a run of two evaluations that was stopped after the first."""
    workspace = tmp_path_factory.mktemp("begun")
    before = Path.cwd()
    os.chdir(workspace)
    try:
        split = make_split(workspace)
        file = toy_recipe(split, tiny_folder, workspace / "toy.yaml")
        run, _ = trained(file)
    finally:
        os.chdir(before)
    run = workspace / run
    (run / "run_manifest.json").unlink()
    shutil.rmtree(run / "checkpoints/step-000006")
    return workspace


@pytest.fixture
def stopped(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    workspace = tmp_path / "workspace"
    shutil.copytree(begun, workspace)
    split = workspace / "manifests/splits/toy"
    text = (workspace / "toy.yaml").read_text().replace(str(begun), str(workspace))
    (workspace / "toy.yaml").write_text(text)
    assert str(split) in text  # a run that was moved: the manifests are the same, their place is another
    monkeypatch.chdir(workspace)
    return workspace


@pytest.mark.parametrize(
    "setting",
    [
        "finetune.activation_checkpointing=true",
        "finetune.loader_workers=1",
        "finetune.max_batch_audio_seconds=2",
        "finetune.precision=auto",
        "evaluation.keep_best=1",
        "tracking.to=[tensorboard]",
        "acceptance.wer=0.5",
    ],
)
def test_what_changes_no_number_resumes(stopped: Path, setting: str, begun: Path) -> None:
    run, _ = trained(Path("toy.yaml"), setting, resume=True)
    record = json.loads((run / "run_manifest.json").read_text())
    (entry,) = record["resumed"]
    name, _, value = setting.partition("=")
    assert entry["after_step"] == 3 and not entry["changes_numbers"]
    assert [text for text in entry["changed"] if text.startswith(f"{name}: ") and value.strip("[]") in text]
    whole = read_metrics(begun / run, "train")
    assert [row["loss"] for row in read_metrics(run, "train")] == pytest.approx(
        [row["loss"] for row in whole], rel=1e-5
    )


@pytest.mark.parametrize(
    "setting",
    [
        "finetune.lr=0.0005",
        "evaluation.decode_clips=2",
        "finetune.precision=bf16",
        "finetune.clips_per_step=6",
        "finetune.groups={decoder: 0.001}",
        "evaluation.patience=2",
    ],
)
def test_what_changes_numbers_resumes_in_so_many_words_and_is_written_down(stopped: Path, setting: str) -> None:
    name = setting.partition("=")[0]
    with pytest.raises(GovorError, match=rf"another recipe \({name}.*--resume-changed"):
        trained(Path("toy.yaml"), setting, resume=True)
    run, told = trained(Path("toy.yaml"), setting, resume="changed")
    record = json.loads((run / "run_manifest.json").read_text())
    (entry,) = record["resumed"]
    assert entry["changes_numbers"] and any(text.startswith(name) for text in entry["changed"])
    assert any(note.startswith(f"changed since the run was begun: {name}") for note in told.notes)
    assert recipes.load(str(run / "recipe.yaml")) == recipes.load("toy.yaml", [setting])
    if name == "finetune.precision":
        assert record["precision"] == "bf16"


def test_a_row_left_out_afterwards_resumes_in_so_many_words(stopped: Path) -> None:
    manifest = stopped / "manifests/splits/toy/train.jsonl"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(GovorError, match=r"have changed since .*--resume-changed"):
        trained(Path("toy.yaml"), resume=True)
    run, _ = trained(Path("toy.yaml"), resume="changed")
    record = json.loads((run / "run_manifest.json").read_text())
    assert record["data"]["toy/train"]["rows"] == 11 and record["resumed"][0]["changes_numbers"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["finetune.method=lora"], "another model"),
        (["finetune.max_steps=2"], "has done 3 steps and the changed recipe ends after 2"),
    ],
)
def test_what_makes_no_sense_is_refused_all_the_same(stopped: Path, settings: Sequence[str], sentence: str) -> None:
    before = (stopped / "models/whisper/toy/recipe.yaml").read_text()
    with pytest.raises(GovorError, match=sentence):
        trained(Path("toy.yaml"), *settings, resume="changed")
    assert (stopped / "models/whisper/toy/recipe.yaml").read_text() == before


def test_a_setting_that_did_not_exist_when_the_run_was_begun_is_no_change(stopped: Path) -> None:
    import yaml

    file = stopped / "models/whisper/toy/recipe.yaml"
    values = yaml.safe_load(file.read_text())
    del values["finetune"]["label_smoothing"], values["acceptance"]
    file.write_text(yaml.safe_dump(values))
    recipe = recipes.load("toy.yaml")
    from govor.finetune.data import fingerprints

    changes = resume.changes(runs.Run(file.parent), recipe, fingerprints(runs.Workspace(), recipe))
    assert [change.name for change in changes if change.counts] == []


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
