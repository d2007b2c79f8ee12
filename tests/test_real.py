"""The main job on real weights and real speech, through the command a newcomer runs; few steps, a few minutes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Real models use every core."""
    import os

    return {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}


def test_quickstart_end_to_end_on_real_speech(
    govor: Callable[..., Any], workspace: Path, real_base: Path, real_czech: Path, cores: dict[str, str]
) -> None:
    done = govor("quickstart", "--fast-dev-run", **cores)
    for wanted in (
        "padded",
        "speech",
        "reference",
        "before",
        "after",
        "reports/quickstart-fast-dev/index.html",
        "Next:",
    ):
        assert wanted in done.stdout, wanted
    headline = json.loads((workspace / "manifests/eval_quickstart-fast-dev.json").read_text())
    before = headline["contexts"]["padded"]["before"]
    assert before["clips"] == 8 and 0.2 < before["wer"] < 1.2, "an untouched Whisper base understands some Czech"
    page = (workspace / "reports/quickstart-fast-dev/index.html").read_text()
    assert page.count("<audio controls") == 8
    package = json.loads((workspace / "models/whisper/quickstart-fast-dev/package.json").read_text())
    assert package["checks"]["hf"]["max_logit_difference"] < 1e-3
    assert "reusing" in govor("quickstart", "--fast-dev-run", **cores).stderr

    govor(
        *("train", "quickstart", "--set", "data.split=manifests/splits/quickstart-fast-dev", "--set", "name=learns"),
        *("--max-steps", 8, "--set", "evaluation.evaluations=1", "--set", "evaluation.metric=loss"),
        *("--set", "evaluation.decode_clips=0"),
        **cores,
    )
    rows = [json.loads(line) for line in (workspace / "models/whisper/learns/metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["kind"] == "eval"]
    assert losses[-1] < 0.75 * losses[0], f"eight real steps must help: {losses}"
