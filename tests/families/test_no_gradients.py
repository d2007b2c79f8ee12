"""Where nothing is learned no graph is built: every recogniser, every way of asking it (T01), merging too (T02)."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import govor.families
from conftest import transcribe_clips
from govor.corpus.records import Clip
from govor.examples.spec import ExampleSpec
from govor.families import adapters
from govor.families.base import Aligner, Inference, Recogniser
from govor.families.lora import Lora
from govor.families.qwen3_asr.tiny import tiny as tiny_qwen
from govor.families.registry import family_class, family_names
from govor.families.task import DecodeOptions
from govor.families.whisper.tiny import tiny

FAMILIES = [pytest.param(tiny, id="whisper"), pytest.param(tiny_qwen, id="qwen3_asr")]
NOISE = [np.random.default_rng(i).normal(0, 0.1, 8000 + 4000 * i).astype(np.float32) for i in range(3)]


@contextmanager
def graphs(module: torch.nn.Module) -> Iterator[list[str]]:
    """Names of the parts that gave out a tensor which remembers how it was made; "heard" counts all that gave out any."""
    found: list[str] = []
    heard = 0

    def tensors(value: Any) -> Iterator[torch.Tensor]:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict):
            for item in value.values():
                yield from tensors(item)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from tensors(item)

    def hook(name: str) -> Callable[..., None]:
        def listen(_module: Any, _inputs: Any, output: Any) -> None:
            nonlocal heard
            heard += 1
            if any(tensor.requires_grad for tensor in tensors(output)):
                found.append(name)

        return listen

    hooks = [part.register_forward_hook(hook(name)) for name, part in module.named_modules()]
    yield found
    for one in hooks:
        one.remove()
    assert heard > 20, "the model was asked"


ASKED: dict[str, Callable[[Any], object]] = {
    "greedy": lambda family: family.transcribe(NOISE, ["en", "de", "en"]),
    "padded": lambda family: family.transcribe(NOISE[:1], ["en"], DecodeOptions("padded")),
    "beams": lambda family: family.transcribe(NOISE[:2], ["en", "de"], DecodeOptions(beam_size=3)),
    "drawn": lambda family: family.transcribe(NOISE[:2], ["en", "de"], DecodeOptions(temperature=0.7)),
    "language found": lambda family: family.transcribe(NOISE[:2], [None, None]),
    "text before": lambda family: family.transcribe(NOISE[:2], ["en", "en"], previous=["before", None]),
    "n best": lambda family: family.nbest(NOISE[0], "en", 2),
    "listening": lambda family: family.attend(NOISE[:1], [["a", " b"]], ["en"]),
    "validation": lambda family: transcribe_clips(family, [Clip("a", "a.wav", "a", 0.5, "en")], "speech"),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("make", FAMILIES)
def test_no_step_of_decoding_builds_a_graph(make: Any, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govor.families.recogniser.clip_samples", lambda clip: NOISE[0])
    family = make()
    if asked == "listening" and not isinstance(family, Aligner):
        pytest.skip("it cannot be asked where it listens")
    family.module.train()  # validation happens in the middle of training
    learning = sum(parameter.requires_grad for parameter in family.module.parameters())
    assert learning > 20 and torch.is_grad_enabled()
    with graphs(family.module) as found:
        ASKED[asked](family)
    assert not found
    assert torch.is_grad_enabled(), "the caller's mode is as it was"


@pytest.mark.parametrize("make", FAMILIES)
def test_the_hook_sees_a_graph_where_there_is_one(make: Any) -> None:
    family = make()
    with graphs(family.module) as found:
        type(family).transcribe.__wrapped__(family, NOISE[:1], ["en"])
    assert len(found) > 20


def test_every_recogniser_has_the_guard_as_its_base() -> None:
    found = set()
    for info in pkgutil.walk_packages(govor.families.__path__, "govor.families."):
        for value in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(value) and value.__module__ == info.name and hasattr(value, "transcribe"):
                found.add(value)
    found.discard(Recogniser)
    assert {family_class(name) for name in family_names()} <= found and len(found) >= 3
    for recogniser in found:
        assert issubclass(recogniser, Inference), recogniser
        for name in ("transcribe", "nbest", "attend"):
            if hasattr(recogniser, name):
                assert hasattr(getattr(recogniser, name), "__wrapped__"), f"{recogniser}.{name}"


def test_a_new_recogniser_gets_the_guard_by_its_base_alone() -> None:
    class Another(Inference):
        def transcribe(self) -> bool:
            return torch.is_grad_enabled()

    class Heir(Another):
        def nbest(self) -> bool:
            return torch.is_grad_enabled()

    assert not Another().transcribe() and not Heir().transcribe() and not Heir().nbest()


@pytest.mark.parametrize("make", FAMILIES)
def test_a_model_that_transcribed_or_was_merged_can_be_trained_on(make: Any) -> None:
    family = make()
    clip = Clip("a", "a.wav", "abc", 0.5, "en")
    batch = family.renderer.collate([family.renderer.encode(ExampleSpec(clip, "en"), NOISE[0])])
    adapters.inject(family.module, family.lora_targets(), Lora(rank=2), seed=0)
    family.transcribe(NOISE[:1], ["en"])
    family.loss(batch)[0].backward()
    adapters.merge_with_proof(family, batch)
    assert not any(tensor.is_inference() for tensor in family.module.state_dict().values())
    family.transcribe(NOISE[:1], ["en"])
    family.loss(batch)[0].backward()
    assert all(parameter.grad is not None for parameter in family.module.parameters() if parameter.requires_grad)
