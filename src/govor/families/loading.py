"""A model is whole when it is loaded: every weight of the file is in it, every weight of it came from the file, none is
NaN, none was cut to integers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from govor.errors import GovorError
from govor.families.checking import weight_files as named_weight_files

# As safetensors calls them. Integers and 8-bit floats need scales that the file does not hold.
_FLOATS = ("F64", "F32", "F16", "BF16")
# What wrappers put before every name, and who does.
_PREFIXES = {
    "_orig_mod.": "torch.compile",
    "base_model.model.": "peft",
    "module.": "DistributedDataParallel",
    "_forward_module.": "Lightning",
    "model.model.": "a wrapper class",
}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder.

    Raises:
        GovorError: it holds none; what it holds instead is said.
    """
    files = named_weight_files(folder)
    if files:
        return files
    if (folder / "adapter_config.json").exists():
        raise GovorError(
            f"{folder} holds adapters and no model; name the run or the checkpoint they belong to, or merge them into their "
            "base first (peft: merge_and_unload, save_pretrained)."
        )
    raise GovorError(f"{folder} holds no model.safetensors; convert the model to safetensors first.")


@contextmanager
def quiet_library() -> Iterator[None]:
    """Keep `transformers` from printing its own report of a load, a line for each weight: ours says it in one sentence."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def from_files(
    kind: type[PreTrainedModel],
    folder: Path,
    dtype: torch.dtype,
    options: Mapping[str, object],
    allowed: Collection[str] = (),
) -> tuple[PreTrainedModel, list[str]]:
    """A model of the library's class `kind` with the weights of `folder`, all of them; `options` go to `from_pretrained`.

    Args:
        allowed: names that may be missing.

    Returns:
        the model, and which of `allowed` were missing.

    Raises:
        GovorError: see `check_complete`.
    """
    model, report = kind.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="sdpa",
        use_safetensors=True,
        local_files_only=True,
        ignore_mismatched_sizes=True,  # told by the report, with all names
        output_loading_info=True,
        **options,
    )
    check_complete(report, folder, allowed)
    return model, _names(report["missing_keys"])


def check_dtypes(files: Collection[Path]) -> None:
    """Refuse weights that are no floating-point numbers: cast, they would be other weights.

    Raises:
        GovorError: a file holds integers or 8-bit floats, or cannot be read.
    """
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                kinds = {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118  (no dict)
        except (SafetensorError, OSError) as error:
            raise GovorError(f"{file} cannot be loaded ({error}); fetch or package the model again.") from None
        odd = sorted(name for name, kind in kinds.items() if kind not in _FLOATS)
        if odd:
            raise GovorError(
                f"{file} holds {len(odd):,} quantised weights (first: {odd[0]}, {kinds[odd[0]]}); a model in float32, float16 "
                "or bfloat16 was wanted."
            )


def check_complete(report: Mapping[str, Iterable[object]], folder: Path, allowed: Collection[str] = ()) -> None:
    """Refuse a model of which weights are missing, left over or of another shape.

    Args:
        report: what `from_pretrained(output_loading_info=True)` tells.
        allowed: names that may be missing.

    Raises:
        GovorError: with the names.
    """
    wrong = {kind: _names(report.get(f"{kind}_keys", ())) for kind in ("missing", "unexpected", "mismatched")}
    wrong["missing"] = [name for name in wrong["missing"] if name not in allowed]
    if not any(wrong.values()):
        return
    differences = "; ".join(f"{len(names):,} {kind} ({', '.join(names[:3])})" for kind, names in wrong.items() if names)
    raise GovorError(
        f"The weights in {folder} do not fit its config.json: {differences}. With them the model would be part random; "
        f"{_remedy(wrong['unexpected'])}."
    )


def _names(keys: Iterable[object]) -> list[str]:
    return sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)


def _remedy(unexpected: list[str]) -> str:
    for prefix, who in _PREFIXES.items():
        if unexpected and all(name.startswith(prefix) for name in unexpected):
            return f"its names begin with '{prefix}', which {who} puts there: save the model without the wrapper"
    return "fetch or save the model again"


def check_finite(module: nn.Module, folder: Path) -> None:
    """Refuse a model with a weight that is NaN or infinite.

    Raises:
        GovorError: with its name.
    """
    for name, value in module.state_dict().items():
        # The sum is NaN or infinite where a part is; only then is it worth looking at each (a sum may overflow).
        if value.is_floating_point() and not math.isfinite(float(value.sum(dtype=torch.float64))):
            bad = int((~torch.isfinite(value)).sum())
            if bad:
                raise GovorError(
                    f"The model in {folder} is damaged: {bad:,} of {value.numel():,} numbers of {name} are NaN or infinite; "
                    "take an earlier checkpoint or fetch it again."
                )
