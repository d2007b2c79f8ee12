"""Pages from templates: one place for the environment and for what figures look like in words."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from govor.errors import GovorError
from govor.jsons import script_json
from govor.metrics.compare import format_p


def render(template: str, **values: object) -> str:
    """A page."""
    environment = Environment(
        loader=PackageLoader("govor.measure", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(percent=_percent, rate=_rate, p=format_p, clock=_clock, script=script_json)
    return environment.get_template(template).render(**values)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.1%}"


def _rate(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s"


def check_replaceable(target: Path, files: frozenset[str], what: str) -> None:
    """Refuse to replace a folder that holds other things than `files`."""
    if target.is_file() or (target.exists() and not {path.name for path in target.iterdir()} <= files):
        raise GovorError(f"{target} holds other things than {what}, so it is not replaced; give another --out.")
