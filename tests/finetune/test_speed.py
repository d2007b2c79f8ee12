"""What a run says of its speed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from conftest import make_split, read_metrics, recipe_of, trained
from govor.finetune.speed import counted_flops, device_flops


def test_the_arithmetic_of_a_step_is_counted_attention_and_gradients_included() -> None:
    weight = torch.randn(32, 16, requires_grad=True)
    states = torch.randn(1, 4, 100, 16, requires_grad=True)

    def work() -> str:
        heads = F.scaled_dot_product_attention(states, states, states)
        F.linear(heads, weight).sum().backward()  # type: ignore[no-untyped-call]
        return "done"

    result, flops = counted_flops(work)
    product = 2 * 4 * 100 * 16
    # Attention is two products and five in its backward pass, a linear layer one and two.
    assert result == "done" and flops == product * 100 * (2 + 5) + product * 32 * (1 + 2)


def test_counting_changes_no_number() -> None:
    def work() -> torch.Tensor:
        torch.manual_seed(0)
        weight = torch.randn(64, 64, requires_grad=True)
        heads = F.scaled_dot_product_attention(weight[None, None], weight[None, None], weight[None, None])
        (heads**2).sum().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        return weight.grad

    assert torch.equal(work(), counted_flops(work)[0])


def test_a_device_is_measured_without_a_draw() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert device_flops(torch.device("cpu"), "fp32") > 1e8
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_logs_hours_of_audio_an_hour_and_its_share_of_the_device(workspace: Path, tiny_folder: Path) -> None:
    make_split(workspace)
    run, _ = trained(recipe_of(workspace, tiny_folder))
    rows = read_metrics(run, "train")
    for row in rows:
        hours: Any = row["audio_hours_per_device_hour"]
        assert hours == pytest.approx(row["audio_seconds"] / row["seconds"], rel=0.02, abs=0.1)
        assert row["mfu"] > 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["mfu"] > 0 and metrics["audio_hours_per_device_hour"] > 0
    assert json.loads((run / "run_manifest.json").read_text())["result"]["mfu"] == metrics["mfu"]
