"""Training through its use case: what a run begins from, is taught and checked with."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Silent, make_split, read_metrics, recipe_of, toy_recipe, trained, with_context
from govor import recipe as recipes
from govor.corpus.manifests import Manifest, write_clips
from govor.corpus.records import Segment
from govor.errors import GovorError
from govor.families.opening import open_model
from govor.finetune.loop import Trainer
from govor.finetune.train import train
from govor.finetune.validation import Validation
from govor.package.build import package
from govor.runs import Workspace


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


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("part", ["", "/checkpoints/step-000006"])
def test_an_unpackaged_run_is_a_base_model(workspace: Path, tiny_folder: Path, govor: Run, part: str) -> None:
    file = recipe_of(workspace, tiny_folder)
    run, _ = trained(file)
    done = govor("train", file, "--set", "name=second", "--set", f"base_model={run}{part}", "--device", "cpu")
    assert f"of {run} a model of its own" in done.stderr
    began, ended = (read_metrics(Path("models/whisper/second"), "eval")[0], read_metrics(run, "eval")[-1])
    assert began["step"] == 0 and began["loss"] == pytest.approx(ended["loss"], rel=1e-5)
