"""What is wrong with a model, as far as that can be said before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Iterable

from govor.errors import GovorError, nearest
from govor.families.registry import check_engine, family_here, settings_of
from govor.hub import find_here
from govor.runs import Workspace

_DEVICES = ("auto", "cuda", "mps", "cpu")


def check_model(
    workspace: Workspace, model: str, engine: str = "torch", device: str = "auto", languages: Iterable[str | None] = ()
) -> None:
    """Refuse what is wrong with a model's name, device, engine, files and languages; what needs the weights is found later.

    Raises:
        GovorError: with what is wrong.
    """
    if device.partition(":")[0] not in _DEVICES:
        raise GovorError(f"There is no device '{device}'; {nearest(device, _DEVICES)}")
    source = workspace.model(model)
    find_here(source)
    check_engine(engine, source)
    kind = family_here(source) if engine == "torch" else None
    if kind is None:
        return
    for code in languages:
        if code is not None:
            settings_of(kind).check_language(code)
