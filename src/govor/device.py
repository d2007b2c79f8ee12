"""Which device and number format to compute on, each chosen with a reason."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from govor.errors import GovorError

Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision and why it was taken."""

    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"


def pick_device(wanted: str = "auto") -> Choice:
    """cuda, then mps, then cpu; or the one asked for."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted != "auto":
        kind = wanted.split(":")[0]
        if not available.get(kind, False):
            names = ", ".join(name for name, there in available.items() if there)
            raise GovorError(f"The device '{wanted}' is not to be had on this machine; available: {names}.")
        return Choice(wanted, "asked for")
    fastest = next(name for name, there in available.items() if there)
    return Choice(fastest, "the fastest kind found")


def pick_precision(wanted: Precision, device: str) -> Choice:
    """What was asked for, or what this hardware computes fastest in: bf16, or fp16 on a GPU without it."""
    if wanted != "auto":
        return Choice(wanted, "asked for")
    if device.startswith("cuda"):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("bf16", "the GPU computes in bf16")
        return Choice("fp16", "the GPU has no bf16")
    if device != "cpu":
        return Choice("fp32", f"bf16 is not measured on {device}")
    ratio = _bf16_speedup()
    if ratio >= 1.2:
        return Choice("bf16", f"measured {ratio:.1f}x faster than fp32 here")
    return Choice("fp32", f"bf16 measured {ratio:.1f}x the speed of fp32 here")


def torch_dtype(precision: str) -> torch.dtype:
    """The dtype of a precision's name."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Compute in `precision` where that is safe; weights stay as they are."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device, torch_dtype(precision))


def _bf16_speedup() -> float:
    """Speed of a layer-sized matrix product in bf16 over fp32, the better of five rounds each."""

    def seconds(dtype: torch.dtype) -> float:
        left, right = torch.randn(512, 512, dtype=dtype), torch.randn(2048, 512, dtype=dtype)
        best = float("inf")
        with torch.inference_mode():
            for _ in range(6):
                start = time.perf_counter()
                torch.nn.functional.linear(left, right)
                best = min(best, time.perf_counter() - start)
        return best

    return seconds(torch.float32) / seconds(torch.bfloat16)
