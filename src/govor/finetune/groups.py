"""Which parameters train, at which rate, in names a person understands.

A group is a part of the model (`projector`, `embeddings`, `head`, `decoder.3`), everything whose name begins so
(`encoder`, `decoder`), the uppermost layers of a stack (`encoder.top8`, with the norm above them), or `all`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from govor.errors import GovorError, nearest
from govor.families.adapters import is_adapter

_TOP = re.compile(r"(\w+)\.top(\d+)")


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that share a peak learning rate."""

    name: str
    lr: float
    parameters: tuple[str, ...]
    note: str = ""


def assign(parts: Mapping[str, Sequence[str]], rates: Mapping[str, float]) -> list[Group]:
    """Groups with their parameters; one that two groups name goes to the narrower.

    Args:
        parts: parameter names by part, as `Family.parts` gives them.
        rates: peak learning rate by group name.

    Raises:
        GovorError: a group that this model does not have.
    """
    members = {name: _members(parts, name) for name in rates}
    taken: dict[str, str] = {}
    for name in sorted(members, key=lambda name: len(members[name]), reverse=True):
        taken |= dict.fromkeys(members[name], name)
    groups = [
        Group(name, rate, tuple(p for p in members[name] if taken[p] == name), _note(parts, name))
        for name, rate in rates.items()
    ]
    for group in groups:
        if not group.parameters:
            others = {taken[parameter] for parameter in members[group.name]}
            if not others:
                raise GovorError(
                    f"The group '{group.name}' holds nothing: the family names no parameter that may be trained this way "
                    "(Family.parts must name those of adapters too)."
                )
            raise GovorError(f"The group '{group.name}' holds nothing beside {' and '.join(sorted(others))}; drop one.")
    return groups


def adapter_parts(parts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The same parts with the adapters' parameters alone."""
    adapters = {part: [name for name in names if is_adapter(name)] for part, names in parts.items()}
    return {part: names for part, names in adapters.items() if names}


def linear_layers(module: nn.Module, parts: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[str]:
    """Full names of the linear layers in the groups `names`."""
    wanted = {parameter for name in names for parameter in _members(parts, name)}
    layers = [
        name for name, part in module.named_modules() if isinstance(part, nn.Linear) and f"{name}.weight" in wanted
    ]
    if not layers:
        raise GovorError(
            f"There is no linear layer in {', '.join(names)} that could get an adapter; take encoder or decoder."
        )
    return layers


def freeze_all_but(module: nn.Module, groups: Sequence[Group]) -> None:
    """Only the groups' parameters keep gradients."""
    trained = {name for group in groups for name in group.parameters}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trained)


def table(module: nn.Module, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """What trains: per group its rate and number of parameters, and what is frozen."""
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    rows: list[dict[str, Any]] = [
        {
            "group": group.name,
            "lr": group.lr,
            "parameters": sum(sizes[name] for name in group.parameters),
            "note": group.note,
        }
        for group in groups
    ]
    frozen = sum(sizes.values()) - sum(row["parameters"] for row in rows)
    return [*rows, {"group": "(frozen)", "lr": 0.0, "parameters": frozen, "note": ""}]


def _members(parts: Mapping[str, Sequence[str]], name: str) -> list[str]:
    if name == "all":
        return [parameter for names in parts.values() for parameter in names]
    wanted = "embeddings" if name == "head" and "head" not in parts else name
    top = _TOP.fullmatch(wanted)
    if top:
        stack, count = top[1], int(top[2])
        layers = [part for part in parts if re.fullmatch(rf"{re.escape(stack)}\.\d+", part)]
        if layers and not 1 <= count <= len(layers):
            raise GovorError(f"The group '{name}' asks for {count} layers and the {stack} has {len(layers)}.")
        chosen = [*layers[len(layers) - count :], f"{stack}.norm"] if layers else []
    else:
        chosen = [part for part in parts if part == wanted or part.startswith(f"{wanted}.")]
    parameters = [parameter for part in chosen for parameter in parts.get(part, ())]
    if not parameters:
        stacks = {part.partition(".")[0] for part in parts}
        known = sorted({"all", *stacks, *(f"{stack}.top2" for stack in stacks if f"{stack}.0" in parts)})
        adapted = any(is_adapter(parameter) for parameters in parts.values() for parameter in parameters)
        whose = "No adapter lies in the parameter group" if adapted else "This model has no parameter group"
        raise GovorError(f"{whose} '{name}'; {nearest(name, known)}")
    return parameters


def _note(parts: Mapping[str, Sequence[str]], name: str) -> str:
    tied = "head" not in parts
    if name == "head" and tied:
        return "tied: this is the decoder's embedding table"
    if tied and (name in ("all", "embeddings")):
        return "the head is tied to the embeddings and trains with them"
    return ""
