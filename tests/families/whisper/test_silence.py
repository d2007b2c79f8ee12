"""Cached silence: what stands behind a clip is what a reference computes, and nothing else depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

from govor.audio import Samples
from govor.families.decoding import greedy
from govor.families.joint_attention import Shared, attend_jointly
from govor.families.task import DecodeOptions
from govor.families.whisper.features import LEVELS, log_mel, silence_level
from govor.families.whisper.forward import decode, encode
from govor.families.whisper.model import Whisper
from govor.families.whisper.search import Search
from govor.families.whisper.silence import Silence, kept_positions
from govor.families.whisper.tiny import tiny


def mel(frames: int, seed: int = 0, loud: float = 1.5) -> torch.Tensor:
    """Noise whose loudest value is `loud`, so that its padding has the value `loud` - 2."""
    values = torch.randn(80, frames, generator=torch.Generator().manual_seed(seed)).clamp(max=loud)
    values[0, 0] = loud
    return values


def noise(seconds: float, seed: int = 0, loud: float = 0.1) -> Samples:
    samples: Samples = (np.random.default_rng(seed).standard_normal(int(seconds * 16_000)) * loud).astype(np.float32)
    return samples


def spread(seed: int = 5) -> Whisper:
    """A tiny model whose logits are far apart."""
    whisper = tiny(seed=seed)
    with torch.no_grad():
        whisper.model.model.decoder.embed_tokens.weight.mul_(12)
    return whisper


def reference_silence(whisper: Whisper, level: float) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
    """Keys and values [1500, width] that the stock encoder computes for a window of silence, and its states."""
    encoder = whisper.model.model.encoder
    kept: list[torch.Tensor] = []
    hooks = [
        part.register_forward_hook(lambda _m, _i, output: kept.append(output[0]))
        for layer in encoder.layers
        for part in (layer.self_attn.k_proj, layer.self_attn.v_proj)
    ]
    window = 2 * encoder.embed_positions.num_embeddings
    states = encoder(torch.full((1, 80, window), level)).last_hidden_state[0]
    for hook in hooks:
        hook.remove()
    return list(zip(kept[::2], kept[1::2], strict=True)), states


def reference_states(whisper: Whisper, item: torch.Tensor, level: float) -> torch.Tensor:
    """States of a clip whose positions attend to those of silence behind them: keys put together, in double precision."""
    encoder = whisper.model.model.encoder
    memories, _ = reference_silence(whisper, level)
    positions = item.shape[-1] // 2
    padded = F.pad(item, (0, 3000 - item.shape[-1]), value=level)[None]
    states = F.gelu(encoder.conv2(F.gelu(encoder.conv1(padded)))).permute(0, 2, 1)[0, :positions]
    states = states + encoder.embed_positions.weight[:positions]
    for layer, (keys, values) in zip(encoder.layers, memories, strict=True):
        own = layer.self_attn
        normed = layer.self_attn_layer_norm(states)
        q, k, v = (
            t.double().view(len(t), own.num_heads, own.head_dim).transpose(0, 1)
            for t in (
                own.q_proj(normed) * own.scaling,
                torch.cat([own.k_proj(normed), keys[positions:]]),
                torch.cat([own.v_proj(normed), values[positions:]]),
            )
        )
        mixed = torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ v
        states = states + own.out_proj(mixed.transpose(0, 1).flatten(1).float())
        states = states + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(states))))
    return encoder.layer_norm(states)  # type: ignore[no-any-return]


def silences(whisper: Whisper, mels: list[torch.Tensor]) -> list[Silence | None]:
    return whisper.silences.of([silence_level(item) for item in mels])


@pytest.fixture
def every_position(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the silence is left out."""
    monkeypatch.setattr("govor.families.whisper.silence.STRIDE", 1)


@pytest.mark.parametrize("weight", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_to_both_parts_and_its_gradients_are_those_of_all_keys_at_once(
    dtype: torch.dtype, weight: int
) -> None:
    """A key of weight 3 is three keys."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(3, 4, 11, 8), (3, 4, 7, 8), (3, 4, 7, 8), (4, 50, 8), (4, 50, 8)]
    parts = [torch.randn(shape, generator=draw).to(dtype).requires_grad_() for shape in shapes]
    double = [part.detach().double().requires_grad_() for part in parts]
    mixed = attend_jointly(parts[0], parts[1], parts[2], Shared(parts[3], parts[4], weight))
    q, k, v, shared_k, shared_v = double
    keys, values = (
        torch.cat([own, all_.repeat_interleave(weight, 1).expand(3, -1, -1, -1)], 2)
        for own, all_ in ((k, shared_k), (v, shared_v))
    )
    wanted = torch.softmax(q @ keys.transpose(-1, -2), dim=-1) @ values
    near = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 4e-2, "rtol": 4e-2}
    torch.testing.assert_close(mixed.double(), wanted, **near)
    slope = torch.randn(mixed.shape, generator=draw)
    mixed.backward(slope.to(dtype))
    wanted.backward(slope.double())
    for part, other in zip(parts, double, strict=True):
        torch.testing.assert_close(part.grad.double(), other.grad, **near)  # type: ignore[union-attr]


def test_with_dropout_both_parts_lose_weights() -> None:
    parts = [torch.ones(shape) for shape in [(2, 1, 4, 8), (2, 1, 30, 8), (2, 1, 30, 8), (1, 70, 8), (1, 70, 8)]]
    torch.manual_seed(0)
    mixed = attend_jointly(parts[0], parts[1], parts[2], Shared(parts[3], parts[4]), 0.5)
    assert not torch.allclose(mixed, torch.ones_like(mixed)), "of equal values only dropout makes another mean"
    assert float(mixed.mean()) == pytest.approx(1.0, abs=0.2)


@torch.inference_mode()
def test_a_clip_before_silence_has_the_states_that_a_reference_gives(every_position: None) -> None:
    whisper = tiny()
    for frames, loud in ((300, 1.4), (100, 0.6), (2900, 2.0)):
        item = mel(frames, loud=loud)
        behind = silences(whisper, [item])
        level = behind[0].level  # type: ignore[union-attr]
        states = encode(whisper.model, [item], behind)
        wanted = reference_states(whisper, item, level)
        torch.testing.assert_close(states.padded[0], wanted, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_at_3000_frames_cached_is_the_stock_encoder_and_decoder_bit_for_bit() -> None:
    whisper = tiny()
    mels = [mel(3000, seed) for seed in range(2)]
    states = encode(whisper.model, mels, silences(whisper, mels))
    assert torch.equal(states.padded, whisper.model.model.encoder(torch.stack(mels)).last_hidden_state)
    assert not states.joined


@torch.inference_mode()
def test_the_decoder_finds_the_silence_behind_the_states_of_each_clip(every_position: None) -> None:
    whisper = spread()
    mels = [mel(300, 1, 1.4), mel(150, 2, 0.6), mel(300, 3, 1.9)]
    states = encode(whisper.model, mels, silences(whisper, mels))
    inputs = torch.randint(0, 200, (3, 9), generator=torch.Generator().manual_seed(3))
    together = decode(whisper.model, inputs, states)
    for row, item in enumerate(mels):
        _, silent = reference_silence(whisper, states.silences[row].level)  # type: ignore[union-attr]
        whole = torch.cat([states.padded[row, : item.shape[-1] // 2], silent[item.shape[-1] // 2 :]])
        stock = whisper.model.model.decoder(input_ids=inputs[row : row + 1], encoder_hidden_states=whole[None])
        torch.testing.assert_close(together[row], stock.last_hidden_state[0], atol=5e-5, rtol=1e-4)


@torch.inference_mode()
def test_search_before_silence_writes_what_transformers_writes_from_the_joined_states(every_position: None) -> None:
    whisper = spread()
    mels = [mel(300, 1, 1.4), mel(300, 2, 0.6)]
    states = encode(whisper.model, mels, silences(whisper, mels))
    prompts = torch.tensor([whisper.tokens.prompt("cs")] * 2)
    found = greedy(Search(whisper.model, whisper.tokens, states, prompts, 0), whisper.tokens.end, [20, 20])
    banned = sorted(
        {*whisper.tokens.steering_ids(), *range(whisper.tokens.first_timestamp, whisper.model.config.vocab_size)}
    )
    for row in range(2):
        _, silent = reference_silence(whisper, states.silences[row].level)  # type: ignore[union-attr]
        whole = torch.cat([states.padded[row], silent[150:]])[None]
        theirs: Any = GenerationMixin.generate(
            whisper.model, encoder_outputs=BaseModelOutput(whole), decoder_input_ids=prompts[row : row + 1], num_beams=1,
            max_length=24, do_sample=False, suppress_tokens=banned,
            begin_suppress_tokens=list(whisper.model.generation_config.begin_suppress_tokens),
        )  # fmt: skip
        wanted = [token for token in theirs[0].tolist()[prompts.shape[1] :] if token != whisper.tokens.end]
        assert found[row].tokens == wanted and len(wanted) > 3


@pytest.mark.parametrize("beams", [1, 3])
def test_how_clips_are_batched_changes_nothing_before_silence(beams: int) -> None:
    whisper = spread()
    clips = [
        noise(seconds, seed, loud)
        for seed, (seconds, loud) in enumerate([(1.2, 0.3), (2.9, 0.001), (1.1, 0.01), (2.8, 0.3)])
    ]
    options = DecodeOptions("cached", beam_size=beams)
    together = whisper.transcribe(clips, ["cs"] * 4, options)
    for clip, hypothesis in zip(clips, together, strict=True):
        alone = whisper.transcribe([clip], ["cs"], options)[0]
        assert alone.tokens == hypothesis.tokens
        assert alone.mean_logprob == pytest.approx(hypothesis.mean_logprob, abs=1e-4)


def test_a_clip_that_fills_the_window_goes_with_others_that_have_silence_behind_them() -> None:
    whisper = spread()
    clips = [noise(29.9, 1, 0.3), noise(28.2, 2, 0.001), noise(26.5, 3, 0.3)]
    mels = [log_mel(clip, 80, frames) for clip, frames in zip(clips, (3000, 2900, 2700), strict=True)]
    states = encode(whisper.model, mels, silences(whisper, mels))
    assert states.silences[0] is None and None not in states.silences[1:]
    together = whisper.transcribe(clips, ["cs"] * 3, DecodeOptions("cached"))
    for clip, hypothesis in zip(clips, together, strict=True):
        assert whisper.transcribe([clip], ["cs"], DecodeOptions("cached"))[0].tokens == hypothesis.tokens


def test_the_level_of_a_clip_is_that_of_its_padding() -> None:
    for loud in (0.0, 1e-4, 0.003, 0.05, 0.5):
        full = log_mel(noise(2.0, loud=loud), 80)
        padding = float(full[0, -1])
        nearest = min(LEVELS, key=lambda level: abs(level - padding))
        assert silence_level(log_mel(noise(2.0, loud=loud), 80, 200)) == nearest


def test_silence_is_made_once_for_each_level_and_anew_when_a_weight_changes() -> None:
    whisper = tiny()
    first = silences(whisper, [mel(200, seed, loud=1.5) for seed in range(9)])
    assert len(set(map(id, first))) == 1
    many = silences(whisper, [mel(200, loud=loud) for loud in np.linspace(-3, 3, 60)])
    assert 1 < len(set(map(id, many))) <= len(LEVELS)
    assert silences(whisper, [mel(200, loud=1.5)])[0] is first[0]
    with torch.no_grad():
        whisper.model.model.encoder.conv1.weight.mul_(1.5)
    changed = silences(whisper, [mel(200, loud=1.5)])[0]
    assert changed is not first[0]
    assert not torch.equal(changed.encoder[0][0], first[0].encoder[0][0])  # type: ignore[union-attr]


def test_the_gradient_before_silence_is_that_of_all_keys_at_once(every_position: None) -> None:
    whisper = tiny()
    whisper.module.train()
    mels = [mel(300, 1, 1.4), mel(150, 2, 0.6)]
    inputs = torch.randint(0, 200, (2, 9), generator=torch.Generator().manual_seed(3))
    levels = torch.tensor([silence_level(item) for item in mels])
    loss, _ = whisper.loss({"mels": mels, "inputs": inputs, "targets": inputs, "levels": levels})
    loss.backward()  # type: ignore[no-untyped-call]
    ours = {name: weight.grad.clone() for name, weight in whisper.module.named_parameters() if weight.grad is not None}
    whisper.module.zero_grad()
    wanted = torch.zeros(())
    for row, item in enumerate(mels):
        with torch.no_grad():
            memories, silent = reference_silence(whisper, float(levels[row]))
            whisper_silent = silent[item.shape[-1] // 2 :]
        states = _with_memories(whisper, item, memories, float(levels[row]))
        hidden = _decoded(whisper, inputs[row], states, whisper_silent)
        wanted = wanted + F.cross_entropy(whisper.model.proj_out(hidden), inputs[row], reduction="sum")
    torch.testing.assert_close(loss, wanted, atol=1e-3, rtol=1e-5)
    wanted.backward()  # type: ignore[no-untyped-call]
    for name, weight in whisper.module.named_parameters():
        if name in ours:
            torch.testing.assert_close(
                ours[name], weight.grad, atol=2e-3, rtol=2e-3, msg=lambda m, name=name: f"{name}: {m}"
            )


def _with_memories(
    whisper: Whisper, item: torch.Tensor, memories: list[tuple[torch.Tensor, torch.Tensor]], level: float
) -> torch.Tensor:
    encoder = whisper.model.model.encoder
    positions = item.shape[-1] // 2
    padded = F.pad(item, (0, 2), value=level)[None]
    states = F.gelu(encoder.conv2(F.gelu(encoder.conv1(padded)))).permute(0, 2, 1)[0, :positions]
    states = states + encoder.embed_positions.weight[:positions]
    for layer, (keys, values) in zip(encoder.layers, memories, strict=True):
        own, normed = layer.self_attn, layer.self_attn_layer_norm(states)
        mixed = _attention(
            own, own.q_proj(normed),
            torch.cat([own.k_proj(normed), keys[positions:]]), torch.cat([own.v_proj(normed), values[positions:]]),
        )  # fmt: skip
        states = states + own.out_proj(mixed)
        states = states + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(states))))
    return encoder.layer_norm(states)  # type: ignore[no-any-return]


def _decoded(whisper: Whisper, ids: torch.Tensor, states: torch.Tensor, silent: torch.Tensor) -> torch.Tensor:
    decoder = whisper.model.model.decoder
    hidden = decoder.embed_tokens(ids) + decoder.embed_positions.weight[: len(ids)]
    for layer in decoder.layers:
        own, normed = layer.self_attn, layer.self_attn_layer_norm(hidden)
        mixed = _attention(own, own.q_proj(normed), own.k_proj(normed), own.v_proj(normed), causal=True)
        hidden = hidden + own.out_proj(mixed)
        cross, normed = layer.encoder_attn, layer.encoder_attn_layer_norm(hidden)
        keys, values = (
            torch.cat([projection(states), projection(silent).detach()]) for projection in (cross.k_proj, cross.v_proj)
        )
        hidden = hidden + cross.out_proj(_attention(cross, cross.q_proj(normed), keys, values))
        hidden = hidden + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(hidden))))
    return decoder.layer_norm(hidden)  # type: ignore[no-any-return]


def _attention(
    attention: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, causal: bool = False
) -> torch.Tensor:
    q, k, v = (t.view(len(t), attention.num_heads, -1).transpose(0, 1) for t in (queries, keys, values))
    scores = q @ k.transpose(-1, -2) * attention.head_dim**-0.5
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
    return (torch.softmax(scores, dim=-1) @ v).transpose(0, 1).flatten(1)


def test_a_refresh_holds_until_the_next_and_a_checkpoint_brings_it_back() -> None:
    whisper = tiny()
    whisper.module.train()
    whisper.refresh()
    before = silences(whisper, [mel(200)])[0]
    with torch.no_grad():
        whisper.model.model.encoder.conv1.weight.mul_(1.5)
    assert silences(whisper, [mel(200)])[0] is before, "a step trains against the silence of the last refresh"
    other = tiny()
    other.module.train()
    other.restore_refreshed(whisper.refreshed())
    again = silences(other, [mel(200)])[0]
    for one, two in zip(before.encoder + before.decoder, again.encoder + again.decoder, strict=True):  # type: ignore[union-attr]
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    whisper.module.eval()
    assert silences(whisper, [mel(200)])[0] is not before, "an evaluation sees the weights as they are"


@torch.inference_mode()
def test_one_position_of_several_counts_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a memory whose positions are alike, what is kept gives what all give."""
    alike = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(1)).expand(2, 1500, 4)
    for positions in (25, 700, 1475, 1499):
        whole, thin = [], []
        for stride, shares in ((1, whole), (8, thin)):
            monkeypatch.setattr("govor.families.whisper.silence.STRIDE", stride)
            memory = (alike[:, kept_positions(1500)], alike[:, kept_positions(1500)])
            silence = Silence(-0.5, 1500, (memory,), (memory,))
            shared = silence.behind(memory, positions, alike)
            assert shared.keys.shape[1] * shared.weight == pytest.approx(1500 - positions)
            own = torch.randn(1, 2, 5, 4, generator=torch.Generator().manual_seed(2))
            shares.append(attend_jointly(own, own, own, shared))
        torch.testing.assert_close(whole[0], thin[0], atol=1e-5, rtol=1e-5)


def test_alignment_hears_the_silence(tmp_path: Path) -> None:
    whisper = spread()
    clips, pieces = [noise(1.9, 1), noise(1.0, 2)], [["ano", " ne"], [" mluví"]]
    together = whisper.attend(clips, pieces, ["cs", "cs"], DecodeOptions("cached"))
    padded = whisper.attend(clips, pieces, ["cs", "cs"], DecodeOptions("padded"))
    for row in range(2):
        alone = whisper.attend([clips[row]], [pieces[row]], ["cs"], DecodeOptions("cached"))[0]
        assert alone is not None and together[row] is not None and padded[row] is not None
        np.testing.assert_allclose(together[row].weights, alone.weights, atol=1e-5)  # type: ignore[union-attr]
        assert together[row].weights.shape == padded[row].weights.shape  # type: ignore[union-attr]
        # What lies on the silence is missing from the clip.
        assert float(together[row].weights.sum(-1).max()) < 0.9  # type: ignore[union-attr]


def test_silence_is_kept_on_disk_and_a_file_that_is_no_good_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("govor.families.whisper.silences.WORTH_SECONDS", 0.0)
    monkeypatch.setattr("govor.families.whisper.silences.MOST_FILES", 3)
    said: list[str] = []

    def opened(seed: int = 0) -> Whisper:
        whisper = tiny(seed=seed)
        whisper.opened_for_use(tmp_path, said.append)
        return whisper

    made = silences(opened(), [mel(200)])[0]
    (file,) = (tmp_path / "silence").iterdir()
    monkeypatch.setattr("govor.families.whisper.silences.encode_silence", None)  # what is on disk is not encoded
    read = silences(opened(), [mel(200)])[0]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(made.encoder, read.encoder, strict=True))  # type: ignore[union-attr]
    monkeypatch.undo()
    monkeypatch.setattr("govor.families.whisper.silences.WORTH_SECONDS", 0.0)

    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"x" * 100):
        file.write_bytes(content)
        again = silences(opened(), [mel(200)])[0]
        assert torch.equal(again.encoder[0][0], made.encoder[0][0])  # type: ignore[union-attr]
        assert "cannot be read" in said[-1] and "made anew" in said[-1]
        assert len(file.read_bytes()) == len(whole)
    silences(opened(7), [mel(200)])
    (other,) = set((tmp_path / "silence").iterdir()) - {file}
    file.write_bytes(other.read_bytes())
    again = silences(opened(), [mel(200)])[0]
    assert torch.equal(again.encoder[0][0], made.encoder[0][0]) and "of other weights" in said[-1]  # type: ignore[union-attr]

    changed = opened()
    with torch.no_grad():
        changed.model.model.encoder.conv1.weight.mul_(2)
    files = set((tmp_path / "silence").iterdir())
    silences(changed, [mel(200)])
    assert set((tmp_path / "silence").iterdir()) == files, "weights that were changed since have no file"


def test_a_cache_folder_that_cannot_be_written_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govor.families.whisper.silences.WORTH_SECONDS", 0.0)
    (tmp_path / "silence").write_text("a file is in the way")
    said: list[str] = []
    whisper = tiny()
    whisper.opened_for_use(tmp_path, said.append)
    assert silences(whisper, [mel(200)])[0] is not None
    assert "cannot be kept" in said[-1]
