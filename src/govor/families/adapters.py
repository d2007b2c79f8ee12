"""Low-rank adapters: put into a model, saved beside nothing but themselves, merged back with a proof.

An adapter is saved in peft's layout, so that other tools load it; its base is found again by the name and hash that the
run keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import nn

from govor.errors import GovorError
from govor.families.base import Batch, Family
from govor.families.lora import Lora

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
# Largest logit difference that merging may make in float32. Measured on Whisper base: 2e-5.
MERGE_TOLERANCE = 1e-3


def inject(module: nn.Module, targets: Sequence[str], lora: Lora, seed: int) -> None:
    """Put adapters on the linear layers `targets` (full names); everything else is frozen.

    The first factor is drawn from `seed`, the second is zero (Hu et al. 2021), so nothing changes until it is trained.
    """
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    inject_adapter_in_model(_config(targets, lora), module)
    torch.set_rng_state(state)


def has_adapters(module: nn.Module) -> bool:
    """Whether adapters are in a model."""
    return any(isinstance(part, LoraLayer) for part in module.modules())


def is_adapter(parameter: str) -> bool:
    """Whether a parameter of a model with adapters is theirs."""
    return ".lora_" in parameter


def save_adapters(module: nn.Module, targets: Sequence[str], lora: Lora, base_model: str, folder: Path) -> None:
    """The adapters alone, as peft's `AutoPeftModel` loads them onto `base_model`: a folder or a Hub id (`opening.findable`)."""
    weights = {f"{_PREFIX}{name}": value.contiguous() for name, value in get_peft_model_state_dict(module).items()}
    save_file(weights, folder / WEIGHTS)
    config = _config(targets, lora)
    config.base_model_name_or_path = base_model
    # Without a task type, which peft has none of for speech, its loader goes by this.
    config.auto_mapping = {"base_model_class": type(module).__name__, "parent_library": type(module).__module__}
    config.inference_mode = True
    config.save_pretrained(str(folder))


def load_weights(module: nn.Module, folder: Path) -> None:
    """Adapter weights into a model that has the adapters already."""
    stored = {name.removeprefix(_PREFIX): value for name, value in load_file(folder / WEIGHTS).items()}
    # Torch's two lists of names, which peft's annotation does not say.
    missing, unexpected = set_peft_model_state_dict(module, stored)  # type: ignore[attr-defined]
    if unexpected or any(is_adapter(name) for name in missing):
        raise GovorError(f"The adapters in {folder} belong to another model; train anew under another name.")


def attach(module: nn.Module, folder: Path) -> None:
    """Put the adapters of `folder` into a plain model."""
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = False
    inject_adapter_in_model(config, module)
    load_weights(module, folder)


@torch.no_grad()
def merge(module: nn.Module) -> None:
    """Add every adapter to its layer and take it out: the model is a plain one again."""
    adapted = [(name, part) for name, part in module.named_modules() if isinstance(part, LoraLayer)]
    for name, layer in adapted:
        layer.merge(safe_merge=True)
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, layer.get_base_layer())
    for parameter in module.parameters():
        parameter.requires_grad_(True)


@torch.no_grad()  # not inference_mode: what it makes are the model's weights from here on
def merge_with_proof(family: Family, batch: Batch) -> float:
    """Merge and return the largest difference that it makes to the logits of `batch`.

    Raises:
        GovorError: it is more than rounding.
    """
    family.module.eval()
    before = family.logits(batch)
    merge(family.module)
    difference = float((family.logits(batch) - before).abs().max())
    if not difference <= MERGE_TOLERANCE:
        raise GovorError(
            f"Merging the adapters changes the logits by {difference:.2g} (allowed: {MERGE_TOLERANCE:g}); nothing was kept."
        )
    return difference


def scaling(folder: Path) -> float:
    """What the product of the two factors is multiplied by."""
    config = LoraConfig.from_pretrained(str(folder))
    return float(config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r))


def adapted_weight(name: str) -> str:
    """The parameter of the plain model that a stored adapter tensor belongs to."""
    return name.removeprefix(_PREFIX).split(".lora_")[0] + ".weight"


def _config(targets: Sequence[str], lora: Lora) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=list(targets),
    )
