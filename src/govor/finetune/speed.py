"""How fast a run is beside what its device can do: hours of audio an hour, and model FLOPs utilisation (MFU).

MFU is the arithmetic that the model needs, per second, as a share of the device's (Chowdhery et al. 2022). The first is
counted while a step runs; the second is that of a large matrix product, measured here in the run's number format.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from govor.device import torch_dtype

Result = TypeVar("Result")
# Beside other programs the best of many short rounds is the device's own.
_MEASURED_SECONDS = 0.25
# A product of this many rows, columns and terms takes a fraction of a second, and no smaller one uses a whole GPU.
_SIZES = {"cpu": 1024, "mps": 4096, "cuda": 8192}


def counted_flops(work: Callable[[], Result]) -> tuple[Result, int]:
    """What `work` gives, and the floating-point operations of its matrix products, convolutions and attention."""
    ours = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=ours) as counter:
        result = work()
    return result, int(counter.get_total_flops())


def _attention(
    query: torch.Size, key: torch.Size, value: torch.Size, *_: object, out_shape: object = None, **__: object
) -> int:
    formula: Callable[..., int] = flop_counter.sdpa_flop_count
    return formula(query, key, value)


def _attention_backward(
    grad: torch.Size,
    query: torch.Size,
    key: torch.Size,
    value: torch.Size,
    *_: object,
    out_shape: object = None,
    **__: object,
) -> int:
    formula: Callable[..., int] = flop_counter.sdpa_backward_flop_count
    return formula(grad, query, key, value)


def device_flops(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of a large matrix product on this device, the best of some rounds."""
    size = _SIZES.get(device.type, _SIZES["cpu"])
    dtype = torch_dtype(precision)
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    best, begun = 0.0, time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() - begun < _MEASURED_SECONDS:
            _wait(device)
            started = time.perf_counter()
            left @ right
            _wait(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
