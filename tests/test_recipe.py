"""Every shipped recipe runs through the command line on a tiny model; bad input is a sentence before weights are loaded."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from conftest import Silent, make_split, read_metrics, recipe_of, toy_recipe, with_context
from govor import recipe as recipes
from govor.corpus.manifests import Manifest, write_clips
from govor.errors import GovorError
from govor.finetune.train import train
from govor.runs import Workspace

Govor = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="session")
def tiny_qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from govor.families.qwen3_asr.tiny import tiny

    folder = tmp_path_factory.mktemp("models") / "tiny-qwen"
    tiny().save(folder)
    return folder


@pytest.mark.parametrize("name", sorted(recipes.shipped()))
def test_every_recipe_runs_its_phases(
    name: str, govor: Govor, workspace: Path, tiny_folder: Path, tiny_qwen_folder: Path
) -> None:
    shipped = recipes.load(name)
    split = with_context(make_split(workspace))
    if shipped.data.split:
        data = [f"data.split={split}"]
    else:
        data = [f"data.sources.{source}.split={split}" for source in shipped.data.sources]
    base = tiny_folder if shipped.family == "whisper" else tiny_qwen_folder
    sets = [part for value in (f"base_model={base}", "finetune.loader_workers=0", *data) for part in ("--set", value)]
    groups = re.sub(r"top\d+", "top1", json.dumps(shipped.model_dump(mode="json")["finetune"]["phases"]))
    sets += ["--set", f"finetune.phases={groups}"]
    done = govor("train", name, *sets, "--fast-dev-run", "--device", "cpu")
    run = Path(f"models/{shipped.family}/{name}-fast-dev")
    steps = read_metrics(run, "train")
    phases = [phase.name for phase in shipped.finetune.phases] or ["train"]
    assert [row["phase"] for row in steps] == [phase for phase in phases for _ in range(2)]
    assert all(f"phase {phase}" in done.stderr for phase in phases)
    assert "diagnosis:" in done.stderr and (run / "diagnosis.json").exists()
    record = json.loads((run / "run_manifest.json").read_text())
    assert record["language_token"] == shipped.examples.language
    assert record["result"]["best_checkpoint"]
    if shipped.evaluation.average and len(phases) > 1:
        assert len(record["result"]["average"]["members"]) == 2


@pytest.mark.parametrize("name", sorted(recipes.shipped()))
def test_every_recipe_says_what_it_is_for(name: str) -> None:
    head = [line for line in recipes.shipped()[name].read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = "\n".join(head)
    assert "# Data:" in text and "# Smoke: govor " in text and "# Full: " in text
    assert re.search(r"# (Gate|Score):", text)


def refused(file: str, settings: list[str], sentence: str) -> None:
    """The run ends with one sentence before anything is made."""
    with pytest.raises(GovorError, match=sentence) as caught:
        train(Workspace(), recipes.load(file, settings), Silent(), device="cpu")
    assert "\n" not in str(caught.value)
    assert not Path("models").exists()


def sources(workspace: Path, **changes: dict[str, Any]) -> dict[str, Any]:
    one, two = make_split(workspace, name="one"), make_split(workspace, name="two")
    found: dict[str, Any] = {"one": {"split": str(one), "weight": 0.9}, "two": {"split": str(two), "weight": 0.1}}
    for name, change in changes.items():
        found[name].update(change)
    return found


def mixed(workspace: Path, base: Path, found: dict[str, Any], **sections: Any) -> str:
    import yaml

    file = toy_recipe(Path("x"), base, workspace / "mixed.yaml", **sections)
    values = yaml.safe_load(file.read_text())
    values["data"] = {"sources": found}
    file.write_text(yaml.safe_dump(values))
    return str(file)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"one": {"weight": -1.0}}, r"data.sources.one.weight: input should be greater than or equal to 0, found -1"),
        ({"one": {"weight": 0.0}, "two": {"weight": 0}}, r"every weight of data.sources is 0"),
        ({"two": {"weight": None}}, r"some of data.sources have a weight and some have none"),
        ({"two": {"min_quality": 0.5}}, r"The source 'two' \(.*\) has no rows left to draw from: 12 no quality_score"),
        ({"two": {"split": "gone"}}, r"gone/train.jsonl was not found"),
        ({"two": {"split": "empty"}}, r"empty/train.jsonl holds no clips"),
        ({"two": {"wieght": 1}}, r"unknown setting 'data.sources.two.wieght'; did you mean 'weight'"),
    ],
)
def test_bad_sources_are_one_sentence(
    change: dict[str, Any], sentence: str, workspace: Path, tiny_folder: Path
) -> None:
    for part in ("train", "validation"):
        write_clips(Path("empty") / f"{part}.jsonl", [])
    refused(mixed(workspace, tiny_folder, sources(workspace, **change)), [], sentence)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["examples.timestamps_share=0.4"], r"timestamps_share is 0.4 and no row drawn in phase 'train' has times"),
        (["examples.previous_share=0.5"], r"previous_share is 0.5 and no row drawn in phase 'train' has text before"),
        (["examples.language=hbs"], r"Whisper has no token for language 'sh'"),
        (["family=qwen3_asr"], r"is a whisper model and the recipe's family is qwen3_asr"),
        (
            ["family=qwen3_asr", "examples.timestamps_share=0.4"],
            r"timestamps_share is 0.4 and the family is qwen3_asr, which has no time tokens",
        ),
        (["family=qwen3_asr", "examples.context=padded"], r"qwen3_asr never pads a clip"),
        (["finetune.groups={encodr: 1e-4}"], r"no parameter group 'encodr'; did you mean 'encoder'"),
        (
            ["finetune.method=lora", "finetune.lora.quantize=4bit"],
            r"quantize is 4bit, which needs an NVIDIA GPU .* and this run is on cpu",
        ),
        (["finetune.lora.rank=4"], r"finetune.lora is set and finetune.method is 'full'"),
        (["finetune.method=lora", "finetune.lora.targets=[projector]"], r"no parameter group 'projector'"),
        (["evaluation.average=1"], r"an average needs at least 2"),
        (["tracking.to=[wandbb]"], r"tracking.to.0: input should be 'wandb', 'tensorboard' or 'trackio'"),
        (["tracking.upload=ftp://x/y"], r"s3://"),
        (
            ["finetune.phases=[{name: a, epochs: 1, weights: {other: 1}}]"],
            r"phase 'a' weighs the source 'other'; there are: toy",
        ),
        (["finetune.phases=[{name: a, epochs: 1, weights: {toy: 0}}]"], r"every weight of phase 'a' is 0"),
        (
            ["finetune.phases=[{name: a, epochs: 1}, {name: a, epochs: 1}]"],
            r"two of finetune.phases are called the same",
        ),
    ],
)
def test_bad_settings_are_one_sentence(settings: list[str], sentence: str, workspace: Path, tiny_folder: Path) -> None:
    refused(str(toy_recipe(make_split(workspace), tiny_folder, workspace / "toy.yaml")), settings, sentence)


def test_a_refusal_on_the_command_line_is_exit_code_2_and_no_traceback(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    file = toy_recipe(make_split(workspace), tiny_folder, workspace / "toy.yaml")
    done = govor("train", file, "--set", "examples.timestamps_share=0.4", "--device", "cpu", expect=2)
    assert done.stderr.strip().splitlines()[-1].startswith("govor: examples.timestamps_share is 0.4")
    assert "Traceback" not in done.stderr and not Path("models").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"transcript": "x" * 500}, r"needs 506 tokens and Whisper's decoder holds 448"),
        ({"language": "tlh"}, r"no token for language 'tlh'"),
        ({"license": None}, r"licence"),
        ({"transcript": "  "}, r"has an empty transcript"),
    ],
)
def test_bad_rows_are_one_sentence(change: dict[str, Any], sentence: str, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    clips = list(Manifest(split / "train.jsonl"))
    write_clips(split / "train.jsonl", [*clips[:-1], clips[-1].replace(**change)])
    refused(str(toy_recipe(split, tiny_folder, workspace / "toy.yaml")), [], sentence)


def test_quality_filters_choose_the_best_rows_and_say_what_was_left_out(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    found = sources(workspace)
    split = Path(found["one"]["split"])
    clips = [clip.replace(quality_score=index / 12) for index, clip in enumerate(Manifest(split / "train.jsonl"))]
    write_clips(split / "train.jsonl", clips)
    found["one"]["min_quality"] = 0.5
    hours = sum(clip.duration for clip in clips[9:]) / 3600 + 1e-9
    found["best"] = {"split": str(split), "weight": 0.5, "best_hours": hours}
    done = govor("train", mixed(workspace, tiny_folder, found), "--device", "cpu")
    assert "one: 6 rows left out (quality below 0.5)" in done.stderr
    record = json.loads(Path("models/whisper/toy/run_manifest.json").read_text())
    assert {name: about["rows"] for name, about in record["sources"].items()} == {"one": 6, "two": 12, "best": 3}


def test_shares_are_asked_reachable_and_realised(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    found = sources(workspace, one={"weight": 0.2}, two={"weight": 0.8})
    with_context(Path(found["one"]["split"]))
    file = mixed(
        workspace,
        tiny_folder,
        found,
        examples={"timestamps_share": 0.4, "previous_share": 0.1},
        finetune={"epochs": 20, "clips_per_step": 48},
    )
    done = govor("train", file, "--device", "cpu")
    assert "warning: timestamps asked for 40% of the examples and 20.0% is what the rows" in done.stderr
    log = [json.loads(line) for line in Path("logs/training/toy.log").read_text().splitlines()]
    shares = [row for row in log if row["message"] == "shares"]
    clips = sum(row["clips"] for row in shares)
    assert clips == 480
    realised = {
        name: sum(row["realised"][name] * row["clips"] for row in shares) / clips for name in ("timestamps", "previous")
    }
    assert realised["timestamps"] == pytest.approx(0.2, abs=0.003), "every row that can"
    assert realised["previous"] == pytest.approx(0.1, abs=0.04)
    assert all(row["sources"] == pytest.approx({"one": 0.2, "two": 0.8}, abs=0.01) for row in shares)
    assert shares[0]["asked"]["timestamps"] == 0.4 and shares[0]["reachable"]["timestamps"] == pytest.approx(0.2)


def test_examples_are_shown_as_training_sees_them(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = with_context(make_split(workspace))
    file = toy_recipe(
        split, tiny_folder, workspace / "toy.yaml", examples={"timestamps_share": 0.5, "previous_share": 0.5}
    )
    shown = json.loads(govor("examples", split / "train.jsonl", "--recipe", file, "--show", "12", "--json").stdout)
    kinds = {tuple(item["features"]) for item in shown["examples"]}
    assert {"timestamps", "previous text"} <= {name for kind in kinds for name in kind}
    for item in shown["examples"]:
        given = "".join(text for text, _, taught in item["pieces"] if not taught)
        taught = "".join(text for text, _, taught in item["pieces"] if taught)
        assert given.endswith("<|startoftranscript|>") and taught.endswith("<|endoftext|>")
        assert ("<|startofprev|>" in given) is ("previous text" in item["features"])
        assert ("<|0.00|>" in taught) is ("timestamps" in item["features"])
        if {"timestamps", "previous text"} <= set(item["features"]):
            assert "<|0.00|>" in given, "the text before keeps its times with the target"
    shares = {row["feature"]: row for row in shown["shares"]}
    assert shares["timestamps"]["asked"] == 0.5 and 0 < shares["timestamps"]["realised"] < 1
    told = govor("examples", split / "train.jsonl", "--recipe", file, "--show", "1").stdout
    assert "shares of the examples of an epoch" in told and "<|startoftranscript|>" in told


def test_a_run_is_repeated_from_its_record(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    split = make_split(workspace)
    govor("train", toy_recipe(split, tiny_folder, workspace / "toy.yaml", finetune={"dropout": 0.1}), "--device", "cpu")
    record = "models/whisper/toy/run_manifest.json"
    again = govor("train", record, "--device", "cpu", "--json")
    assert json.loads(again.stdout)["repeats"]["largest_difference"] == 0.0
    assert json.loads(again.stdout)["repeats"]["steps"] == 6
    assert "losses of the first 6 steps against toy: all equal" in again.stderr
    assert Path("models/whisper/toy-again/run_manifest.json").exists()
    changed = govor("train", record, "--set", "name=other", "--set", "finetune.seed=5", "--device", "cpu")
    assert "largest difference" in changed.stderr
    text = (split / "train.jsonl").read_text()
    (split / "train.jsonl").write_text(text.replace("sol", "sal"))
    refused = govor("train", record, "--set", "name=third", expect=2)
    assert "is not the manifest that toy was trained on" in refused.stderr
    assert "was not found" in govor("train", "models/whisper/gone/run_manifest.json", expect=2).stderr
    Path("other.json").write_text("{}")
    assert "is no run_manifest.json" in govor("train", "other.json", expect=2).stderr


def test_trackers_get_what_the_log_gets(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    file = toy_recipe(make_split(workspace), tiny_folder, workspace / "toy.yaml", tracking={"to": ["tensorboard"]})
    govor("train", file, "--device", "cpu")
    run = Path("models/whisper/toy")
    events = EventAccumulator(str(next((run / "tracking").rglob("events.*")).parent))
    events.Reload()
    logged = {point.step: point.value for point in events.Scalars("train/loss")}
    wanted = {row["step"]: row["loss"] for row in read_metrics(run, "train")}
    assert logged == pytest.approx(wanted, rel=1e-5)
    assert {"lr/all", "validation/loss"} <= set(events.Tags()["scalars"])


def test_the_set_up_of_tracking_writes_a_recipe_and_no_key(govor: Govor, workspace: Path, tiny_folder: Path) -> None:
    pytest.importorskip("tensorboard")
    file = toy_recipe(make_split(workspace), tiny_folder, workspace / "toy.yaml")
    done = govor("track", file, "--to", "tensorboard", "--project", "hebrew", "--name", "mine", WANDB_API_KEY="k" * 40)
    text = Path("mine.yaml").read_text()
    assert "k" * 40 not in text + done.stdout + done.stderr
    found = recipes.load("mine.yaml")
    assert (found.tracking.to, found.tracking.project, found.name) == (("tensorboard",), "hebrew", "mine")
    assert found.base_model == str(tiny_folder) and "tensorboard --logdir" in done.stderr
    refused = govor("track", file, "--to", "tensorboard", "--project", "0123456789abcdef" * 3, "--name", "x", expect=2)
    assert "looks like a secret key" in refused.stderr and not Path("x.yaml").exists()
    assert "--project is missing" in govor("track", file, "--to", "tensorboard", expect=2).stderr
    assert "tracking.to.0" in govor("track", file, "--to", "wandbb", "--project", "p", "--name", "y", expect=2).stderr


def test_a_resolved_recipe_says_where_each_setting_comes_from(tmp_path: Path, govor: Any) -> None:
    (tmp_path / "a.yaml").write_text(
        "extends: whisper\nname: a\nfinetune: {epochs: 1, lora: {rank: 4}, method: lora}\n"
    )
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nname: b\ndata: {split: null, sources: {x: {split: s}}}\n")
    found = json.loads(govor("recipe", "show", tmp_path / "b.yaml", "--set", "finetune.lr=1e-4", "--json").stdout)
    assert {name: tuple(found[name].values()) for name in ("name", "finetune.epochs", "finetune.lora.rank")} == {
        "name": ("b", "set in b.yaml"),
        "finetune.epochs": (1.0, "inherited from a.yaml"),
        "finetune.lora.rank": (4, "inherited from a.yaml"),
    }
    assert found["finetune.lr"] == {"value": 1e-4, "origin": "overridden by --set"}
    assert found["data.split"] == {"value": None, "origin": "set in b.yaml"}
    assert found["data.sources.x.split"]["origin"] == "set in b.yaml"
    assert found["data.sources.x.weight"] == {"value": None, "origin": "default"}
    assert found["base_model"]["origin"] == "inherited from whisper.yaml"
    shown = govor("recipe", "show", tmp_path / "b.yaml").stdout
    assert len(shown.splitlines()) == len(found) and "finetune.lr " in shown
    refused = govor("recipe", "show", "quickstrat", expect=2)
    assert "did you mean 'quickstart'?" in refused.stderr


def test_the_next_command_of_tracking_names_data_that_is_there(
    govor: Govor, workspace: Path, tiny_folder: Path
) -> None:
    pytest.importorskip("tensorboard")
    options = ["--to", "tensorboard", "--project", "p"]
    nowhere = govor("track", "whisper", *options, "--name", "first").stderr
    assert "next  govor train first.yaml --set data.split=manifests/splits/NAME" in nowhere
    make_split(workspace)
    done = govor("track", "whisper", *options, "--name", "second").stderr
    (command,) = [line.removeprefix("next  govor ") for line in done.splitlines() if line.startswith("next  ")]
    assert command == "train second.yaml --set data.split=manifests/splits/toy"
    govor(*command.split(), "--set", f"base_model={tiny_folder}", "--fast-dev-run", "--device", "cpu")
    assert Path("models/whisper/second-fast-dev/run_manifest.json").exists()
    file = toy_recipe(Path("manifests/splits/toy"), tiny_folder, workspace / "toy.yaml")
    assert "next  govor train third.yaml\n" in govor("track", file, *options, "--name", "third").stderr


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("stated", ["Bosnian", "bos", "bosanski", "bs"])
def test_a_recipes_language_and_tracker_are_understood(
    workspace: Path, tiny_folder: Path, govor: Run, stated: str
) -> None:
    file = recipe_of(workspace, tiny_folder)
    govor("train", file, "--set", f"examples.language={stated}", "--set", "tracking.to=tensorboard", "--device", "cpu")
    record = json.loads(Path("models/whisper/toy/run_manifest.json").read_text())
    assert record["language_token"] == record["recipe"]["examples"]["language"] == "bs"
    assert list(Path("models/whisper/toy/tracking/tensorboard").iterdir())
    refused = govor("train", file, "--overwrite", "--set", "examples.language=Bosnisch1", "--device", "cpu", expect=2)
    assert "'Bosnisch1' is no language code or name of a language" in refused.stderr


def settings_of(workspace: Path, base: Path, **sections: Any) -> str:
    return str(toy_recipe(make_split(workspace), base, workspace / "toy.yaml", **sections))


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


def test_recipes_have_their_story_at_the_head() -> None:
    for name, path in recipes.shipped().items():
        head = path.read_text(encoding="utf-8")
        assert head.startswith("# ") and "# Smoke: " in head and "# Full:" in head, name


def test_overrides_are_typed_and_the_resolved_recipe_runs_again(tmp_path: Path) -> None:
    first = recipes.load("whisper", ["finetune.lr=2e-5", "finetune.max_steps=7", "examples.context=padded", "name=x"])
    assert first.finetune.lr == 2e-5 and first.finetune.max_steps == 7
    file = tmp_path / "again.yaml"
    file.write_text(first.to_yaml(), encoding="utf-8")
    assert recipes.load(str(file)) == first


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: whisper\nname: a\nfinetune: {lr: 1.0e-4}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nname: b\nfinetune: {epochs: 1}\n")
    found = recipes.load(str(tmp_path / "b.yaml"))
    assert (found.name, found.finetune.lr, found.finetune.epochs) == ("b", 1e-4, 1)
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    with pytest.raises(GovorError, match="circle"):
        recipes.load(str(tmp_path / "b.yaml"))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("finetune.learning_rate=1", "unknown setting 'finetune.learning_rate'"),
        ("finetune.warmup_step=1", "did you mean 'warmup_steps'"),
        ("finetun.lr=1", "did you mean 'finetune'"),
        ("finetune.lr=fast", "finetune.lr: "),
        ("examples.full_length_share=2", "less than or equal to 1"),
        ("examples.contexts={speech: 0.5, cached: 0.4}", "add up to 0.9; they must add up to 1"),
        ("examples.contexts={speech: 0.5, quiet: 0.5}", "unknown setting 'examples.contexts.quiet'"),
        ("examples.silence_steps=0", "greater than or equal to 1"),
        ("name=../x", "a name of letters"),
        ("lr", "NAME=VALUE was wanted"),
    ],
)
def test_a_bad_setting_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(GovorError, match=sentence):
        recipes.load("whisper", [override])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["examples.context=padded", "examples.full_length_share=0.2"],
            "context is 'padded'.*full_length_share is 0.2",
        ),
        (
            ["examples.contexts={cached: 0.5, padded: 0.5}", "examples.full_length_share=0.2"],
            r"full_length_share is 0.2.*\(0.5\); drop one",
        ),
        (["evaluation.decode_clips=0"], "metric is 'wer' and decode_clips is 0"),
        (
            ["finetune.max_steps=5", "finetune.warmup_steps=9"],
            "warmup_steps is 9 and finetune.max_steps is 5",
        ),
    ],
)
def test_contradictions_are_refused_with_both_values(overrides: list[str], sentence: str) -> None:
    with pytest.raises(GovorError, match=sentence):
        recipes.load("whisper", overrides)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(GovorError, match="did you mean 'quickstart'"):
        recipes.load("quickstrat")
