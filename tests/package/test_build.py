"""Packaged equals trained: for transformers, for CTranslate2, for faster-whisper."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from conftest import learn_by_heart, transcribe_clips
from govor.audio import decode
from govor.corpus.manifests import Manifest
from govor.errors import GovorError
from govor.families.opening import load_checkpoint, open_model
from govor.families.task import DecodeOptions
from govor.measure.headline import add_to_headline
from govor.measure.scoring import write_eval
from govor.package.build import package
from govor.runs import Run, Workspace


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A workspace with a toy run that has learned its words."""
    return learn_by_heart(tmp_path_factory.mktemp("packaged"), tiny_folder, clips=8, held_out=4, epochs=300)


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return Path("models/whisper/toy")


def test_packaged_equals_trained_bit_for_bit(run: Path) -> None:
    result = package(Run(run), ["hf"], None, overwrite=True)
    assert result.checks["hf"]["clips"] == 4 and result.checks["hf"]["max_logit_difference"] < 1e-4
    checkpoint = load_file(run / "checkpoints" / result.checkpoint / "model.safetensors")
    packaged = load_file(run / "model.safetensors")
    assert checkpoint.keys() == packaged.keys()
    assert all(np.array_equal(checkpoint[name], packaged[name]) for name in checkpoint)


def test_the_stock_pipeline_transcribes_with_the_package(run: Path) -> None:
    from transformers import pipeline

    package(Run(run), ["hf"], None, overwrite=True)
    asr = pipeline("automatic-speech-recognition", str(run), device="cpu")
    clips = Manifest("manifests/splits/toy/train.jsonl")
    clip = next(iter(clips))
    text = asr(
        {"raw": decode(clip.audio), "sampling_rate": 16_000}, generate_kwargs={"language": "en", "num_beams": 1}
    )["text"]
    ours = open_model(str(run)).recogniser.transcribe([decode(clip.audio)], ["en"], DecodeOptions("padded"))[0].text
    assert text.strip() == ours != ""
    # Batches need a padding token.
    some = [{"raw": decode(clip.audio), "sampling_rate": 16_000} for clip in islice(iter(clips), 2)]
    batch = asr(some, batch_size=2, generate_kwargs={"language": "en", "num_beams": 1})
    assert batch[0]["text"].strip() == ours


def test_ct2_and_faster_whisper_load_the_package(run: Path) -> None:
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

    checks = package(Run(run), ["hf", "ct2"], None, overwrite=True).checks["ct2"]
    assert checks["encoder_relative_error"] < 1e-4 and checks["same_text"] == checks["clips"]
    clips = list(Manifest("manifests/splits/toy/train.jsonl"))
    ours = transcribe_clips(open_model(str(run)).recogniser, clips, "speech")
    engine = transcribe_clips(open_model(str(run), engine="ct2").recogniser, clips, "speech")
    assert [row["hypothesis"] for row in engine] == [row["hypothesis"] for row in ours]
    assert [row["hypothesis"] for row in ours] == [row["reference"] for row in ours], "it has learned them"
    padded = (
        open_model(str(run)).recogniser.transcribe([decode(clips[0].audio)], ["en"], DecodeOptions("padded"))[0].text
    )
    # faster-whisper's own features, prompt and engine, on a full window, so that its padding plays no part.
    stock = WhisperModel(str(run / "ct2"), device="cpu", compute_type="float32")
    window = np.pad(decode(clips[0].audio), (0, 30 * 16_000 - len(decode(clips[0].audio))))
    tokenizer = Tokenizer(stock.hf_tokenizer, True, task="transcribe", language="en")
    prompt = stock.get_prompt(tokenizer, [], without_timestamps=True)
    states = stock.encode(stock.feature_extractor(window)[:, :3000])
    found = stock.model.generate(states, [prompt], beam_size=1, suppress_blank=False)[0].sequences_ids[0]
    assert tokenizer.decode(found).strip() == padded
    assert list(stock.transcribe(decode(clips[0].audio), language="en", suppress_tokens=[])[0]), (
        "its own door opens too"
    )


def test_the_package_carries_its_record_and_a_card_with_scores(run: Path) -> None:
    test = Path("manifests/splits/toy/test.jsonl")
    files = {}
    for name, source in (("before", "base"), ("after", str(run))):
        model = open_model(
            source if name == "after" else json.loads((run / "run_manifest.json").read_text())["base_model"]
        )
        rows = transcribe_clips(model.recogniser, list(Manifest(test)), "speech")
        files[name] = Path(f"manifests/evals/{name}.json")
        write_eval(
            Workspace(),
            files[name].with_suffix(""),
            rows,
            {"model": name, "set": "toy-test", "context": "speech"},
            test,
        )
    add_to_headline(Workspace(), "toy", {"speech": (files["before"], files["after"])})
    package(Run(run), ["hf"], None, overwrite=True)
    card = (run / "README.md").read_text()
    assert "| speech |" in card and "own (8)" in card and "base_model:" in card
    assert json.loads((run / "run_manifest.json").read_text())["run"] == "toy"
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "preprocessor_config.json",
        "generation_config.json",
        "package.json",
    } <= {path.name for path in run.iterdir()}
    assert json.loads((run / "preprocessor_config.json").read_text())["feature_size"] == 80


def test_an_export_that_differs_fails_and_leaves_the_package_before_as_it_was(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from govor.package import build

    def other(run: Run, checkpoint: Path) -> object:
        whisper = load_checkpoint(run, checkpoint)
        plain = whisper.save

        def save(target: Path) -> None:
            plain(target)
            file = target / "model.safetensors"
            from safetensors.torch import save_file

            weights = load_file(file)
            weights["model.encoder.layers.0.fc1.bias"] += 1.0
            save_file(weights, file, metadata={"format": "pt"})

        whisper.save = save
        return whisper

    package(Run(run), ["hf"], None, overwrite=True)
    before = [(file.name, file.read_bytes()) for file in sorted(run.iterdir()) if file.is_file()]
    monkeypatch.setattr(build, "load_checkpoint", other)
    with pytest.raises(GovorError, match="other logits than the trained one"):
        package(Run(run), ["hf"], None, overwrite=True)
    after = [(file.name, file.read_bytes()) for file in sorted(run.iterdir()) if file.is_file()]
    assert after == before and not list(run.glob(".hf*"))


def test_an_unknown_checkpoint_or_an_unfinished_run_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(GovorError, match="no checkpoint 'step-9'; there are: step-"):
        package(Run(run), ["hf"], "step-9", overwrite=True)
    with pytest.raises(GovorError, match="no finished run"):
        package(Run(tmp_path), ["hf"], None)


def test_a_new_package_leaves_no_older_ct2_behind(run: Path) -> None:
    package(Run(run), ["hf", "ct2"], None, overwrite=True)
    assert (run / "ct2/model.bin").exists()
    assert package(Run(run), ["hf"], None, overwrite=True).formats == ["hf"]
    assert not (run / "ct2").exists()


def test_a_conversion_that_fails_is_one_sentence_and_leaves_the_package_before(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctranslate2.converters import TransformersConverter

    package(Run(run), ["hf", "ct2"], None, overwrite=True)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("unknown layer")

    monkeypatch.setattr(TransformersConverter, "convert", fails)
    with pytest.raises(
        GovorError, match="CTranslate2 could not convert the model: unknown layer; nothing was packaged"
    ):
        package(Run(run), ["hf", "ct2"], None, overwrite=True)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
