"""The second family: batching changes nothing, it learns and transcribes, and comes back from both layouts as it was."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from govor.corpus.records import Clip
from govor.errors import GovorError
from govor.examples.settings import Examples
from govor.examples.spec import ExampleSpec
from govor.families.base import IGNORED, Family, Recogniser
from govor.families.qwen3_asr import model as family_module
from govor.families.qwen3_asr.features import audio_tokens, log_mel, stack
from govor.families.qwen3_asr.labels import prompt_ids
from govor.families.qwen3_asr.model import Qwen3Asr, _Decoder, batches_by_length, max_new_tokens
from govor.families.qwen3_asr.tiny import tiny
from govor.families.task import DecodeOptions
from govor.finetune.checkpoints import weights_of

TAUGHT = [("he", "שלום עולם"), ("cs", "dobrý den"), ("hr", "č ć ž"), ("mg", "manao ahoana")]


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)


CLIPS = [noise(seconds, seed) for seed, seconds in enumerate((0.6, 1.2, 1.7, 0.3))]


def examples_of(model: Qwen3Asr, previous: str | None = None) -> list[Any]:
    specs = [
        ExampleSpec(
            Clip(str(row), "a.wav", text, len(CLIPS[row]) / 16_000, code, prev_transcript=previous),
            code,
            with_previous=bool(previous) and row % 2 == 0,
        )
        for row, (code, text) in enumerate(TAUGHT)
    ]
    return [model.renderer.encode(spec, samples) for spec, samples in zip(specs, CLIPS, strict=True)]


def row_losses(model: Qwen3Asr, batch: dict[str, Any]) -> list[float]:
    logits = model.logits(batch).float()
    losses = F.cross_entropy(logits.transpose(1, 2), batch["targets"], ignore_index=IGNORED, reduction="none")
    return losses.sum(dim=1).tolist()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def model() -> Qwen3Asr:
    return tiny(seed=1)


def train(model: Qwen3Asr, steps: int, lr: float) -> float:
    batch = model.renderer.collate(examples_of(model))
    parameters = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    model.module.train()
    for _ in range(steps):
        loss, count = model.loss(batch)
        (loss / count).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.module.eval()
    return float(loss.detach() / count)


@pytest.fixture(scope="module")
def trained() -> Qwen3Asr:
    """A tiny model that knows four clips by heart."""
    learned = tiny()
    assert train(learned, 90, 3e-3) < 0.05
    return learned


def test_it_is_a_family_and_a_recogniser(model: Qwen3Asr) -> None:
    assert isinstance(model, Family) and isinstance(model, Recogniser)
    assert model.name == "qwen3_asr" and "timestamps" not in model.renderer.features
    model.prepare_training(Examples())


# Loss


@torch.inference_mode()
def test_a_row_in_a_batch_has_the_loss_it_has_alone(model: Qwen3Asr) -> None:
    examples = examples_of(model, previous="before that")
    together = row_losses(model, model.renderer.collate(examples))
    alone = [row_losses(model, model.renderer.collate([example]))[0] for example in examples]
    assert together == pytest.approx(alone, rel=1e-5)


@torch.inference_mode()
def test_the_loss_is_the_sum_over_taught_tokens_alone(model: Qwen3Asr) -> None:
    examples = examples_of(model)
    batch = model.renderer.collate(examples)
    loss, count = model.loss(batch)
    assert int(count) == sum(len(example.labels.tokens) - example.labels.given for example in examples)
    assert float(loss) == pytest.approx(sum(row_losses(model, batch)), rel=1e-5)
    assert loss.dtype == torch.float32


@torch.inference_mode()
def test_logits_are_made_for_the_taught_positions_alone(model: Qwen3Asr) -> None:
    seen: list[tuple[int, ...]] = []
    handle = model.module.lm_head.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape)))  # type: ignore[union-attr, operator]
    _, count = model.loss(model.renderer.collate(examples_of(model)))
    handle.remove()
    assert seen == [(int(count), 272)]


@torch.inference_mode()
def test_label_smoothing_is_that_of_torch(model: Qwen3Asr) -> None:
    batch = model.renderer.collate(examples_of(model))
    taught = batch["targets"] != IGNORED
    wanted = F.cross_entropy(
        model.logits(batch)[taught], batch["targets"][taught], reduction="sum", label_smoothing=0.1
    )
    assert float(model.loss(batch, label_smoothing=0.1)[0]) == pytest.approx(float(wanted), rel=1e-5)


@torch.inference_mode()
def test_teacher_forcing_equals_the_stock_forward_with_labels(model: Qwen3Asr, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    model.save_base(tmp_path)
    inputs = AutoProcessor.from_pretrained(tmp_path).apply_transcription_request([CLIPS[1]], language="Czech")
    stock = model.module(**inputs).logits[0, -1]
    batch = model.renderer.collate([examples_of(model)[1]])
    at = (batch["inputs"][0] == model.tokens.asr_text).nonzero()[-1, 0]
    torch.testing.assert_close(model.logits(batch)[0, at], stock, atol=1e-5, rtol=1e-5)


def test_chance_is_the_logarithm_of_the_vocabulary(model: Qwen3Asr) -> None:
    assert model.chance_loss == pytest.approx(math.log(272))


# Parameters


@pytest.mark.parametrize("tied", [True, False])
def test_the_groups_are_an_ordered_partition(tied: bool) -> None:
    model = tiny(tied=tied)
    groups = model.parts()
    wanted = ["encoder.stem", "encoder.0", "encoder.1", "encoder.norm", "projector", "embeddings"]
    wanted += ["decoder.0", "decoder.1", "decoder.norm"] + ([] if tied else ["head"])
    assert list(groups) == wanted
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.module.named_parameters())
    assert len(groups["encoder.stem"]) == 7 and "model.audio_tower.conv_out.weight" in groups["encoder.stem"]
    assert groups["embeddings"] == ["model.language_model.embed_tokens.weight"]


def test_lora_hits_the_language_model_alone(model: Qwen3Asr) -> None:
    targets = model.lora_targets()
    modules = dict(model.module.named_modules())
    assert len(targets) == 2 * 7
    assert all(isinstance(modules[name], torch.nn.Linear) for name in targets)
    assert all(name.startswith("model.language_model.layers.") for name in targets)


@pytest.mark.parametrize("tower", ["audio_tower", "language_model"])
def test_checkpointing_computes_activations_twice_and_changes_no_gradient(tower: str) -> None:
    gradients, calls = [], []
    for checkpointing in (False, True):
        model = tiny()
        model.module.train()
        if checkpointing:
            model.module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
        part: Any = getattr(model.module.model, tower)
        runs: list[int] = []
        inner = part.layers[0].fc1 if tower == "audio_tower" else part.layers[0].mlp.up_proj
        inner.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        model.loss(model.renderer.collate(examples_of(model)))[0].backward()
        calls.append(len(runs))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.module.parameters()]))
    assert calls == [1, 2]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=1e-4)


# Learning


def test_it_learns_clips_by_heart_and_writes_them_down(trained: Qwen3Asr) -> None:
    found = trained.transcribe(CLIPS, [code for code, _ in TAUGHT])
    assert [item.text for item in found] == [text for _, text in TAUGHT]
    assert all(item.complete for item in found)
    assert all(trained.tokens.end not in item.tokens for item in found)


def test_without_a_language_it_writes_the_language_itself(trained: Qwen3Asr) -> None:
    found = trained.transcribe(CLIPS, [None] * 4)
    assert [item.text for item in found] == [text for _, text in TAUGHT]
    assert trained.tokens.parse(found[0].tokens) == ("Hebrew", "שלום עולם")


def test_given_languages_and_unknown_ones_share_a_batch(trained: Qwen3Asr) -> None:
    found = trained.transcribe(CLIPS, ["Hebrew", None, "hr", None], DecodeOptions(beam_size=3))
    assert [item.text for item in found] == [text for _, text in TAUGHT]


def test_adapters_alone_learn_the_clips_too() -> None:
    peft = pytest.importorskip("peft", reason="pip install peft for LoRA")
    model = tiny()
    frozen = {name: value.clone() for name, value in model.module.state_dict().items()}
    for parameter in model.module.parameters():
        parameter.requires_grad_(False)
    config = peft.LoraConfig(r=16, lora_alpha=32, target_modules=model.lora_targets())
    peft.inject_adapter_in_model(config, model.module)
    model.module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
    train(model, 100, 1e-2)
    found = model.transcribe(CLIPS, [code for code, _ in TAUGHT])
    assert [item.text for item in found] == [text for _, text in TAUGHT]
    assert all(item.complete for item in found)
    assert not any("audio_tower" in name for name, _ in model.module.named_parameters() if "lora_" in name)
    for name, value in model.module.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(value, frozen[name.replace(".base_layer", "")]), name
    names = [name for group in model.parts().values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.module.named_parameters())


# Transcription


@pytest.mark.parametrize("beams", [1, 3])
def test_how_clips_are_batched_changes_nothing(model: Qwen3Asr, beams: int) -> None:
    clips = [noise(seconds, seed) for seed, seconds in enumerate((0.4, 1.3, 0.5, 2.2, 0.1))]
    languages = ["cs", None, "mg", "he", None]
    heard: list[int] = []
    together = model.transcribe(clips, languages, DecodeOptions(beam_size=beams), on_done=heard.append)
    assert sum(heard) == 5
    for samples, language, found in zip(clips, languages, together, strict=True):
        alone = model.transcribe([samples], [language], DecodeOptions("padded", beams))[0]
        assert found.tokens == alone.tokens
        assert found.mean_logprob == pytest.approx(alone.mean_logprob, abs=1e-4)


@torch.inference_mode()
def test_greedy_search_finds_what_transformers_generates(model: Qwen3Asr, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    model.save_base(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    tokens = model.tokens
    never = [*tokens.never_written(), tokens.asr_text, tokens.end_of_text, *range(263, 272)]
    for samples in CLIPS:
        inputs = processor.apply_transcription_request([samples], language="Czech")
        theirs = model.module.generate(**inputs, max_new_tokens=30, suppress_tokens=never)  # type: ignore[operator]
        wanted = theirs[0, inputs["input_ids"].shape[1] :].tolist()
        ours = model.transcribe([samples], ["cs"])[0].tokens
        assert ours[:30] == [token for token in wanted if token != tokens.end][: len(ours)]


@torch.inference_mode()
def test_either_end_token_is_the_end_and_only_text_may_be_written(model: Qwen3Asr) -> None:
    tokens = model.tokens
    mels = [log_mel(samples, 128) for samples in CLIPS[:2]]
    prompts = [prompt_ids(tokens, audio_tokens(mel.shape[-1]), language=code) for mel, code in zip(mels, ("cs", None), strict=True)]  # fmt: skip
    found = _Decoder(model, mels, prompts, torch.tensor([True, False])).start().exp()
    assert found.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
    features, mask = stack(mels[:1], 50)
    stock = model.module(torch.tensor(prompts[:1]), features, mask).logits[0, -1]
    allowed = [*range(256), tokens.end_of_text, tokens.end]
    wanted = torch.zeros(272)
    wanted[allowed] = stock[allowed].softmax(dim=0)
    wanted[tokens.end] += wanted[tokens.end_of_text]
    wanted[tokens.end_of_text] = 0
    torch.testing.assert_close(found[0], wanted, atol=1e-6, rtol=1e-4)
    assert found[1, tokens.asr_text] > 0, "the model was given no language, so it writes where the text begins"
    assert (found[:, [*tokens.never_written(), *range(263, 272)]] == 0).all()


def test_nbest_is_ordered_and_distinct(model: Qwen3Asr) -> None:
    found = model.nbest(CLIPS[0], "he", 4)
    assert len(found) == 4 == len({tuple(item.tokens) for item in found})
    assert [item.mean_logprob for item in found] == sorted((item.mean_logprob for item in found), reverse=True)


def test_a_clip_of_minutes_is_heard_whole(model: Qwen3Asr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family_module, "MAX_TOKENS_PER_SECOND", 0)
    heard: list[int] = []
    tower: Any = model.module.model.audio_tower  # type: ignore[union-attr]
    handle = tower.register_forward_hook(lambda _, __, output: heard.append(output.last_hidden_state.shape[0]))
    found = model.transcribe([noise(95.0, 0)], ["cs"])[0]
    handle.remove()
    assert heard == [95 * 13]
    assert len(found.tokens) <= 20


def test_a_clip_of_more_than_twenty_minutes_is_refused(model: Qwen3Asr) -> None:
    long = np.zeros(int(16_000 * 1_200.5), np.float32)
    with pytest.raises(GovorError, match=r"Clip 1 is 1200.5 s long.*1,200 s"):
        model.transcribe([CLIPS[0], long], ["cs", "cs"])
    with pytest.raises(GovorError, match=r"1,200 s"):
        model.nbest(long, "cs", 2)
    with pytest.raises(GovorError, match=r"needs 5,2\d\d positions and the model holds 4,096"):
        model.transcribe([long[: 16_000 * 400]], ["cs"])


def test_a_clip_yields_no_more_tokens_than_its_length_allows() -> None:
    assert max_new_tokens(0.3, True, 5_000) == 60
    assert max_new_tokens(0.3, False, 5_000) == 76, "the language is written too"
    assert max_new_tokens(600.0, True, 5_000) == 5_000, "the positions less the prompt"


def test_batches_hold_every_clip_once_within_the_budget() -> None:
    seconds = [float(value) for value in np.random.default_rng(2).uniform(0.3, 60, 200)] + [700.0]
    batches = batches_by_length(seconds)
    assert sorted(index for batch in batches for index in batch) == list(range(201))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(seconds[index] for index in batch) <= 120
        assert len(batch) <= 32


# Checkpoints


def test_a_checkpoint_and_the_base_files_give_the_model_back(trained: Qwen3Asr, tmp_path: Path) -> None:
    trained.save_base(tmp_path)
    weights = weights_of(trained.module)
    assert "lm_head.weight" not in weights, "tied weights are stored once"
    back = Qwen3Asr.from_base(tmp_path, weights)
    same_model(back, trained)
    own = back.module.model.language_model.norm.weight  # type: ignore[union-attr]
    assert own.data_ptr() != weights["model.language_model.norm.weight"].data_ptr()
    with pytest.raises(GovorError, match=r"1 missing \(model.language_model.norm.weight\)"):
        Qwen3Asr.from_base(tmp_path, {k: v for k, v in weights.items() if k != "model.language_model.norm.weight"})
    with pytest.raises(GovorError, match=r"1 unexpected \(extra\)"):
        Qwen3Asr.from_base(tmp_path, {**weights, "extra": torch.zeros(1)})


@torch.inference_mode()
def same_model(a: Qwen3Asr, b: Qwen3Asr) -> None:
    left, right = a.module.state_dict(), b.module.state_dict()
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name
    batch = b.renderer.collate(examples_of(b))
    assert torch.equal(a.logits(a.renderer.collate(examples_of(a))), b.logits(batch))
