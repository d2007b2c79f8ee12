"""A family is a folder and a line in the registry: one that lies outside of govor and transcribes nothing does all that a
family does."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import save_file

from govor import recipe as recipes
from govor.audio import SAMPLE_RATE
from govor.corpus.manifests import Manifest, fingerprint, write_clips
from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.examples.dataset import load_batch
from govor.examples.spec import ExampleSpec
from govor.families import registry
from govor.families.base import Family, Recogniser, Renderer
from govor.families.opening import open_model
from govor.families.recogniser import RECOGNITION
from govor.families.task import DecodeOptions
from govor.measure.accept import accept, gates_given
from govor.measure.scoring import decoded_name
from govor.package.build import package
from govor.runs import Run, RunRecord, Workspace
from toy_family.model import Tone
from toy_family.task import macro_f1
from toy_family.tiny import CLASSES, tiny, tone


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    registry.register("tone", "toy_family")
    yield "tone"


def tones(workspace: Workspace, count: int = 8) -> Path:
    """A manifest of tones, as rows without a transcript; their audio is named relative to the workspace."""
    clips = []
    (workspace.root / "audio").mkdir(parents=True)
    for number in range(count):
        label = CLASSES[number % 2]
        soundfile.write(workspace.path(f"audio/{number}.wav"), tone(label, seed=number), SAMPLE_RATE)
        labels = {"tone": label}
        clips.append(Clip(f"t{number}", f"audio/{number}.wav", "", 0.5, "en", labels=labels, transcribed=False))
    manifest = workspace.path("manifests/splits/tones/validation.jsonl")
    manifest.parent.mkdir(parents=True)
    write_clips(manifest, clips)
    return manifest


def a_run(workspace: Workspace, family: Tone, manifest: Path) -> Run:
    """What training leaves, as far as packaging needs it."""
    run = workspace.run("tone", "mine")
    checkpoint = run.checkpoints / "step-000001"
    checkpoint.mkdir(parents=True)
    family.save_base(run.folder / "base")
    save_file(dict(family.module.state_dict()), checkpoint / "model.safetensors")
    (checkpoint / "state.json").write_text(json.dumps({"step": 1, "metrics": {"macro_f1": 1.0}}))
    run.note_best(checkpoint, "macro_f1", 1.0)
    values = {"name": "mine", "family": "tone", "base_model": "base", "data": {"split": "manifests/splits/tones"}}
    made_of = {**fingerprint(manifest), "path": workspace.as_given(manifest)}
    record = {
        "run": "mine",
        "family": "tone",
        "base_model": "base",
        "languages": ["en"],
        "licenses": {"own": 8},
        "data": {"tones/validation": made_of},
        "recipe": recipes.parse_recipe(values, "tone.yaml").model_dump(mode="json"),
        "result": {"total_steps": 1, "best_checkpoint": checkpoint.name, "metric": "macro_f1"},
        "environment": {"govor": "0"},
    }
    empty = {"base_sha256": "", "created": "", "language_token": None, "augment_sha256": None, "split": {}}
    empty |= {"sources": {}, "seed": 0, "phases": {}, "precision": "fp32", "devices": 1, "memory_halvings": 0}
    run.write_record(RunRecord(**{**empty, "resumed": [], **record}))  # type: ignore[arg-type]
    return run


def test_the_registry_knows_each_family_without_torch() -> None:
    code = (
        "import sys\nfrom govor.families import registry\n"
        "names = [(n, registry.task_of(n).name, registry.settings_of(n).formats) for n in registry.family_names()]\n"
        "print(names, registry.formats(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    asr = "automatic-speech-recognition"
    assert done.stdout.strip() == (
        f"[('whisper', '{asr}', ('hf', 'ct2')), ('qwen3_asr', '{asr}', ('hf', 'thinker'))] "
        "{'hf': ['whisper', 'qwen3_asr'], 'ct2': ['whisper'], 'thinker': ['qwen3_asr']} False"
    )


@pytest.mark.parametrize("name", [*registry.family_names(), "tone"])
def test_what_is_known_of_a_family_is_what_its_class_is(toy: str, name: str) -> None:
    family, settings = registry.family_class(name), registry.settings_of(name)
    assert family.name == name and family.task is settings.task
    assert tuple(family.exports) == settings.formats, "formats are known before torch is imported"
    assert next(iter(family.exports.values())).folder == ".", "what is always written is the root of a package"
    folders = [exporter.folder for exporter in family.exports.values()]
    assert len({*folders}) == len(folders)
    assert {gate.name for gate in settings.task.gates} == {
        *settings.gates.model_fields.keys() - {"measured_on", "context"}
    }


def test_a_family_from_outside_is_saved_and_loaded_again(toy: str, tmp_path: Path) -> None:
    family = tiny()
    assert isinstance(family, Family) and not isinstance(family, Recogniser)
    renderer: Renderer = family.renderer
    workspace = Workspace(tmp_path / "w")
    clips = list(Manifest(tones(workspace), workspace.root))
    batch = load_batch([ExampleSpec(clip, clip.language) for clip in clips], renderer)
    with torch.no_grad():
        loss, weight = family.loss(batch)
    assert int(weight) == len(clips) and family.chance_loss == pytest.approx(math.log(2))
    assert float(loss) / len(clips) == pytest.approx(math.log(2), abs=2.0)
    family.save(tmp_path / "saved")
    opened = open_model(str(tmp_path / "saved"))
    assert opened.task is family.task and torch.equal(opened.model.logits(batch), family.logits(batch))  # type: ignore[union-attr]
    with pytest.raises(GovorError, match=r"saved writes no text, it is for audio-classification"):
        _ = opened.recogniser
    with pytest.raises(GovorError, match="is 'None', and one of low, high was wanted"):
        renderer.check(ExampleSpec(clips[0].replace(labels={}), "en"))


def test_its_task_answers_counts_and_compares(toy: str, tmp_path: Path) -> None:
    workspace, family = Workspace(tmp_path / "w"), tiny()
    clips, task = list(Manifest(tones(workspace), workspace.root)), registry.task_of(toy)
    assert task.refuse(clips[0]) is None and task.refuse(clips[0].replace(labels={})) is not None
    answers = [row for block in task.answers(family, clips, DecodeOptions()) for row in block]
    assert [row["reference"] for row in answers] == ["low", "high"] * 4
    rows = task.counted(answers)
    perfect = task.counted([{**row, "hypothesis": row["reference"]} for row in rows])
    wrong = task.counted([{**row, "hypothesis": "low"} for row in rows])
    assert task.rates(perfect) == {"macro_f1": 1.0, "accuracy": 1.0}
    assert task.rates(wrong) == {"macro_f1": pytest.approx(1 / 3, abs=1e-6), "accuracy": 0.5}
    assert macro_f1(wrong) < macro_f1(perfect) and task.metrics[0].rank(1.0) < task.metrics[0].rank(1 / 3)
    summary = task.summarise(wrong)
    low, high = summary["macro_f1_interval"]
    assert low <= summary["macro_f1"] <= high and task.rates([])["macro_f1"] is None
    compared = task.compare(wrong, perfect, ("a", "b"))
    assert compared["macro_f1"]["difference"] > 0 and compared["better"] == 4 and compared["verdict"] == "B is better"


def test_what_is_of_another_family_is_no_silent_guess(toy: str) -> None:
    with pytest.raises(TypeError, match="Tone is no Recogniser"):
        next(RECOGNITION.answers(tiny(), [], DecodeOptions()), None)
    with pytest.raises(TypeError, match="Tone is no Recogniser"):
        RECOGNITION.check_clips(tiny(), [], Path("m.jsonl"), DecodeOptions())
    with pytest.raises(TypeError, match="examples of another renderer; ToneExample was wanted"):
        tiny().renderer.collate([object()])


def test_its_recipe_is_its_own(toy: str) -> None:
    values = {"name": "x", "family": toy, "base_model": "base", "data": {"split": "s"}}
    made = recipes.parse_recipe(values, "x.yaml")
    assert made.evaluation.metric == "macro_f1" and made.model_dump()["examples"]["label"] == "tone"
    assert recipes.parse_recipe({**values, "acceptance": {"macro_f1": 0.9}}, "x").acceptance.gates() == {
        "macro_f1": 0.9
    }
    for section, wanted in (
        ({"evaluation": {"metric": "wer"}}, "evaluation.metric: input should be 'loss', 'macro_f1' or 'accuracy'"),
        ({"acceptance": {"wer": 0.1}}, "unknown setting 'acceptance.wer'"),
        ({"examples": {"previous_share": 0.5}}, "neither times nor a text before"),
    ):
        with pytest.raises(GovorError, match=wanted):
            recipes.parse_recipe({**values, **section}, "x.yaml")
    with pytest.raises(GovorError, match="input should be 'whisper' or 'qwen3_asr', found 'tones'"):
        registry._FAMILIES.pop(toy)
        recipes.parse_recipe({**values, "family": "tones"}, "x.yaml")


def test_it_may_have_an_engine_of_its_own(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(registry.settings_of(toy), engines={"abacus": lambda folder: folder})
    monkeypatch.setattr("toy_family.settings.SETTINGS", settings)
    (tmp_path / "m" / "abacus").mkdir(parents=True)
    opened = open_model(str(tmp_path / "m"), engine="abacus")
    assert opened.model == tmp_path / "m" / "abacus" and opened.task is settings.task
    assert decoded_name(opened.name, engine="abacus") == "m-abacus"
    with pytest.raises(GovorError, match="no engine 'abakus'; did you mean 'abacus'"):
        open_model(str(tmp_path / "m"), engine="abakus")


def test_it_is_packaged_in_a_workspace_that_is_not_the_current_folder(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, family = Workspace(tmp_path / "w"), tiny()
    run = a_run(workspace, family, tones(workspace))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made = package(run, [])
    assert made.formats == ["safetensors"] and made.checks["safetensors"]["max_logit_difference"] == 0
    assert made.processor == "models/processor/mine" and (workspace.models / "processor/mine/proof.json").exists()
    assert run.packaged and run.package() == made
    card = (run.folder / "README.md").read_text()
    assert "library_name" not in card and "audio context:" not in card
    assert "pipeline_tag: audio-classification" in card and "govor evaluate models/tone/mine" in card
    assert "the checkpoint with the highest validation macro_f1 was taken" in card
    again = open_model(str(run.folder), workspace=workspace)
    state = family.module.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.model.module.state_dict().items())  # type: ignore[union-attr]
    assert not list((tmp_path / "elsewhere").iterdir())
    with pytest.raises(GovorError, match=r"The format 'ct2' is for whisper models, and .*mine is none"):
        package(run, ["ct2"], overwrite=True)
    with pytest.raises(GovorError, match="There is no format 'nonsense'; known: ct2, hf, safetensors, thinker"):
        package(run, ["nonsense"], overwrite=True)
    proof = run.package_file.read_bytes()
    with pytest.raises(GovorError, match=r"package.json already exists; give --overwrite to package it again"):
        package(run, [])
    assert run.package_file.read_bytes() == proof and package(run, [], overwrite=True).formats == made.formats
    for source in (run.folder, run.folder / "base"):
        with pytest.raises(
            GovorError, match=r"'ct2' is for whisper models, and .* is a tone one; take the engine torch"
        ):
            open_model(str(source), engine="ct2", workspace=workspace)


def test_a_run_that_was_judged_and_never_compared_is_packaged(toy: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    run = a_run(workspace, tiny(), tones(workspace))
    run.recipe_file.write_text("family: tone\nacceptance: {macro_f1: 0.9}\n", encoding="utf-8")
    verdict, file = accept(run)
    assert not verdict["accepted"] and json.loads(file.read_text(encoding="utf-8"))["contexts"] == {}
    asked = verdict["gates"][0]["reason"]
    assert (
        "run: govor evaluate models/tone/mine --manifest TEST.jsonl, then govor compare BEFORE AFTER --run mine"
        in asked
    )
    package(run, [])
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "Not scored yet" in card and "model-index" not in card
    suite = gates_given(run, ["macro_f1=0.9", "measured_on=hebrew/eval-d1"])
    with pytest.raises(GovorError, match="mine is for audio-classification, and suites are of speech recognition"):
        accept(run, suite)
