"""Pages from templates: one place for the environment and for what figures look like in words."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from govor.jsons import script_json
from govor.metrics.compare import format_p


def render(template: str, **values: Any) -> str:
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
