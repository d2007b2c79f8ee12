"""Both layouts: what is written comes back tensor by tensor, and what is no such model is one sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.examples.settings import Examples
from govor.examples.spec import ExampleSpec
from govor.families.qwen3_asr.model import Qwen3Asr
from govor.families.qwen3_asr.tiny import tiny


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thinker")
    tiny(seed=2).save_thinker(folder, languages=["he", "Croatian"])
    return folder


def copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def edited(folder: Path, **changes: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@torch.inference_mode()
def same(a: Qwen3Asr, b: Qwen3Asr) -> None:
    left, right = a.module.state_dict(), b.module.state_dict()
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name
    samples = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    logits = [
        model.logits(
            model.renderer.collate(
                [model.renderer.encode(ExampleSpec(Clip("a", "a.wav", "שלום", 1.25, "he"), "he"), samples)]
            )
        )
        for model in (a, b)
    ]
    assert torch.equal(*logits)


def tied(model: Qwen3Asr) -> bool:
    module: Any = model.module
    return module.lm_head.weight is module.model.language_model.embed_tokens.weight


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_native_layout_comes_back_and_transformers_loads_it(tmp_path: Path, is_tied: bool) -> None:
    from transformers import AutoModelForMultimodalLM, Qwen3ASRForConditionalGeneration

    original = tiny(seed=2, tied=is_tied)
    original.save(tmp_path)
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) is not is_tied
    back = Qwen3Asr.load(tmp_path)
    same(back, original)
    assert tied(back) is is_tied
    theirs = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    assert isinstance(theirs, Qwen3ASRForConditionalGeneration)
    assert theirs.generation_config.eos_token_id == [256, 258] and not theirs.generation_config.do_sample


def test_the_older_layout_has_the_published_names(thinker: Path) -> None:
    weights = load_file(thinker / "model.safetensors")
    assert all(name.startswith("thinker.") for name in weights)
    wanted = {
        "thinker.audio_tower.conv2d1.weight": (8, 1, 3, 3),
        "thinker.audio_tower.conv_out.weight": (64, 8 * 16),
        "thinker.audio_tower.layers.1.self_attn.q_proj.bias": (64,),
        "thinker.audio_tower.ln_post.weight": (64,),
        "thinker.audio_tower.proj1.weight": (64, 64),
        "thinker.audio_tower.proj2.bias": (64,),
        "thinker.model.embed_tokens.weight": (272, 64),
        "thinker.model.layers.0.self_attn.k_proj.weight": (32, 64),
        "thinker.model.layers.0.self_attn.q_norm.weight": (16,),
        "thinker.model.norm.weight": (64,),
        "thinker.lm_head.weight": (272, 64),
    }
    assert {name: tuple(weights[name].shape) for name in wanted} == wanted
    assert len(weights) == len(tiny().module.state_dict())


def test_the_older_configuration_says_what_its_readers_ask_for(thinker: Path) -> None:
    config = json.loads((thinker / "config.json").read_text())
    inner = config["thinker_config"]
    assert config["architectures"] == ["Qwen3ASRForConditionalGeneration"] and config["model_type"] == "qwen3_asr"
    assert {"Hebrew", "Croatian", "English"} <= set(config["support_languages"])
    assert len(config["support_languages"]) == 32
    assert [inner[f"audio_{name}token_id"] for name in ("start_", "end_", "")] == [259, 260, 261]
    text = inner["text_config"]
    assert text["rope_theta"] == 1_000_000.0 and sum(text["rope_scaling"]["mrope_section"]) == 16 // 2
    assert inner["audio_config"]["n_window_infer"] == 800 and inner["audio_config"]["max_source_positions"] == 1500
    features = json.loads((thinker / "preprocessor_config.json").read_text())
    assert features["feature_extractor_type"] == "WhisperFeatureExtractor" and features["feature_size"] == 128
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "chat_template.json"):
        assert (thinker / name).exists(), name


def test_the_positions_of_the_published_head_size_are_split_as_published() -> None:
    from govor.families.qwen3_asr.convert import _thinker_config

    model: Any = tiny()
    model.module.config.text_config.head_dim = 128
    config = _thinker_config(model.module, model.tokens, ())
    assert config["thinker_config"]["text_config"]["rope_scaling"]["mrope_section"] == [24, 20, 20]


def test_the_older_layout_comes_back_as_the_model_it_was(thinker: Path, tmp_path: Path) -> None:
    back = Qwen3Asr.load(thinker)
    same(back, tiny(seed=2))
    assert tied(back)
    assert Qwen3Asr.load_renderer(thinker, Examples()).max_tokens == 4096
    back.save(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    assert all(name.startswith("model.") for name in names), "a converted model is saved natively"
    same(Qwen3Asr.load(tmp_path), tiny(seed=2))


def test_a_head_of_its_own_stays_one_whatever_the_configuration_says(tmp_path: Path) -> None:
    original = tiny(seed=2, tied=False)
    original.save_thinker(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["thinker_config"]["text_config"]["tie_word_embeddings"] is False
    config["thinker_config"]["text_config"]["tie_word_embeddings"] = True
    edited(tmp_path, **config)
    back = Qwen3Asr.load(tmp_path)
    assert not tied(back) and "head" in back.parts()
    same(back, original)


def test_shards_and_a_missing_tied_head_are_read(thinker: Path, tmp_path: Path) -> None:
    folder = copied(thinker, tmp_path / "shards")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    del weights["thinker.lm_head.weight"]
    names = sorted(weights)
    placed = {}
    for index, part in enumerate((names[:30], names[30:])):
        file = f"model-{index + 1:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file)
        placed |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    (folder / "generation_config.json").unlink()
    back = Qwen3Asr.load(folder)
    same(back, tiny(seed=2))
    for config in (back.module.config, back.module.generation_config):
        assert (config.pad_token_id, config.eos_token_id) == (258, [256, 258])  # type: ignore[union-attr]


def test_half_precision_is_loaded_and_written(thinker: Path, tmp_path: Path) -> None:
    model = Qwen3Asr.load(thinker, torch.bfloat16)
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.bfloat16}
    model.transcribe([np.zeros(8_000, np.float32)], ["he"])
    model.save_thinker(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["thinker_config"]["dtype"] == "bfloat16"
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}


# What is no such model


def test_another_model_and_an_aligner_are_one_sentence(thinker: Path, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GovorError, match="is a 'whisper' model; a Qwen3-ASR one was wanted"):
        Qwen3Asr.load(tiny_folder)
    with pytest.raises(GovorError, match=r"holds no config\.json"):
        Qwen3Asr.load(tmp_path)
    aligner = copied(thinker, tmp_path / "aligner")
    inner = json.loads((aligner / "config.json").read_text())["thinker_config"]
    with pytest.raises(GovorError, match="forced aligner"):
        Qwen3Asr.load(edited(aligner, thinker_config={**inner, "classify_num": 5000}))


def test_weights_that_do_not_fit_say_which(thinker: Path, tmp_path: Path) -> None:
    folder = copied(thinker, tmp_path / "torn")
    weights = load_file(folder / "model.safetensors")
    del weights["thinker.model.norm.weight"]
    save_file({**weights, "thinker.extra": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(
        GovorError, match=r"1 missing \(model.language_model.norm.weight\); 1 unexpected \(thinker.extra"
    ):
        Qwen3Asr.load(folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(GovorError, match="cannot be loaded"):
        Qwen3Asr.load(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(GovorError, match=r"holds no model\.safetensors"):
        Qwen3Asr.load(folder)


def test_an_incomplete_configuration_names_what_it_lacks(thinker: Path, tmp_path: Path) -> None:
    folder = copied(thinker, tmp_path / "bare")
    with pytest.raises(GovorError, match="lacks d_model, output_dim"):
        Qwen3Asr.load(edited(folder, thinker_config={}))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    model = tiny()
    model.save(tmp_path)
    with pytest.raises(GovorError, match=r"audio_token_id is 7 and the tokenizer's <\|audio_pad\|> is 261"):
        Qwen3Asr.load_renderer(edited(tmp_path, audio_token_id=7), Examples())
