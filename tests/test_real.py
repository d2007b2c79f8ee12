"""The main job on real weights and real speech, through the command a newcomer runs; few steps, a few minutes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real


@pytest.fixture
def cores() -> int:
    """Real models use every core that no other process of these tests does: two that share a core wait for each other."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def test_quickstart_end_to_end_on_real_speech(
    govor: Callable[..., Any], workspace: Path, real_base: Path, real_czech: Path, cores: int
) -> None:
    threads = {"OMP_NUM_THREADS": str(cores)}
    done = govor("quickstart", "--fast-dev-run", **threads)
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
    assert "Confusions" in page
    assert len(list((workspace / "reports/quickstart-fast-dev/audio").iterdir())) == 8
    package = json.loads((workspace / "models/whisper/quickstart-fast-dev/package.json").read_text())
    assert package["checks"]["hf"]["max_logit_difference"] < 1e-3
    assert "reusing" in govor("quickstart", "--fast-dev-run", **threads).stderr

    govor(
        *("train", "quickstart", "--set", "data.split=manifests/splits/quickstart-fast-dev", "--set", "name=learns"),
        *("--max-steps", 8, "--set", "evaluation.evaluations=1", "--set", "evaluation.metric=loss"),
        *("--set", "evaluation.decode_clips=0"),
        **threads,
    )
    rows = [json.loads(line) for line in (workspace / "models/whisper/learns/metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["kind"] == "eval"]
    assert losses[-1] < 0.75 * losses[0], f"eight real steps must help: {losses}"


def test_words_are_on_the_clock_on_real_and_synthetic_speech(real_base: Path, real_czech: Path, cores: int) -> None:
    import ctypes.util

    import numpy as np
    import torch
    from bench.inner import espeak

    from govor.corpus.manifests import read_clips
    from govor.families.opening import open_model
    from govor.measure.timestamps import measure
    from govor.timing.align import align
    from govor.timing.heads import measure_heads
    from govor.timing.splice import splices

    torch.set_num_threads(cores)
    try:
        recogniser: Any = open_model("openai/whisper-base").recogniser
        clips = [clip for clip in read_clips(real_czech) if 1.0 < clip.duration < 5.0][:160]
        found = measure_heads(recogniser, clips[:70], "padded")
        assert found is not None and found.error_seconds < 0.06 and found.borders >= 12
        scored = measure(recogniser, list(splices(clips[70:], 6, 1)), "padded", found.chosen)["all"]
        assert scored["offset_seconds"] < 0.08 and scored["coverage"] > 0.95, scored
        # Clip edges prove the first and last words of a line; inner words are proved by synthetic speech.
        if not ctypes.util.find_library("espeak-ng"):
            pytest.skip("no espeak-ng here for the inner words; install it: apt-get install espeak-ng")
        candidates = [clip.transcript for clip in clips if 4 < len(clip.transcript.split()) < 12]
        # Where its events and the words are not one to one (numbers, dashes), nothing can be compared.
        heard = ((text, espeak(text, "cs")) for text in candidates)
        told = [(text, found) for text, found in heard if len(found[1]) == len(text.split())][:5]
        texts, spoken = [text for text, _ in told], [found for _, found in told]
        aligned = align(recogniser, [wave for wave, _ in spoken], texts, ["cs"] * len(texts), "padded", found.chosen)
        off = [
            abs(word.start - start)
            for (_, starts), one in zip(spoken, aligned, strict=True)
            for word, start in list(zip(one.words, starts, strict=True))[1:]
            if word.start is not None
        ]
        assert len(off) > 10 and np.mean(off) < 0.08, off
    finally:
        torch.set_num_threads(1)
