"""The verdict on recorded curves, and the arithmetic of averages and memory."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import read_metrics, recipe_of, trained
from govor.errors import GovorError
from govor.finetune.average import inverse_loss_weights, mean_of
from govor.finetune.diagnose import diagnose
from govor.finetune.memory import largest_budget
from govor.finetune.stopping_callbacks import Patience
from govor.metrics.metric import LOSS, Metric
from govor.recipe import Evaluation

WER = Metric("wer", "lower")
# Validation losses of real runs of Whisper on Czech speech (and one at chance), in the order of their evaluations.
U_CURVE = [1.89, 1.01, 0.83, 0.78, 0.77, 0.79, 0.84, 0.91, 0.99, 1.06]
FALLING = [1.89, 1.40, 1.21, 1.09, 1.01, 0.95, 0.90, 0.86, 0.82]
SETTLED = [1.89, 1.01, 0.88, 0.82, 0.80, 0.795, 0.793, 0.792, 0.792, 0.793]
AT_CHANCE = [10.91, 10.90, 10.86, 10.87, 10.85, 10.86, 10.85]
NEVER_BETTER = [1.89, 2.40, 2.31, 2.29, 2.28, 2.28, 2.27]


def rows(losses: list[float], wers: list[float] | None = None) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [{"step": 0, "loss": losses[0], "wer": None}]
    for index, loss in enumerate(losses[1:]):
        found.append({"step": 10 * (index + 1), "loss": loss, "wer": wers[index] if wers else loss / 2})
    return found


@pytest.mark.parametrize(
    ("losses", "kind", "said"),
    [
        (U_CURVE, "over-fit", r"turned at step 40 of 90 and rose from 0.770 to 1.060 \(\+37.7%\)"),
        (FALLING, "under-fit", r"still falling: the last quarter of the run took 8.9% off it"),
        (SETTLED, "settled", r"settled at 0.792; its lowest was at step 70 of 90"),
        (AT_CHANCE, "not learning", r"10.850 is that of chance \(10.856\)"),
        (NEVER_BETTER, "not learning", r"never fell below where it began \(1.890; lowest 2.270\)"),
        ([1.89, 0.9], "too few evaluations", r"Only 1 evaluation was made"),
        ([10.9, 10.88], "not learning", r"is that of chance"),
    ],
)
def test_curves_are_read_in_words(losses: list[float], kind: str, said: str) -> None:
    import re

    verdict = diagnose(rows(losses), LOSS, math.log(51865), "step-x")
    assert verdict.kind == kind
    assert re.search(said, " ".join(verdict.sentences)), verdict.sentences
    assert all(value is None or math.isfinite(value) for value in verdict.figures.values())


def test_it_says_which_checkpoint_and_why_where_loss_and_wer_disagree() -> None:
    verdict = diagnose(rows(U_CURVE, [0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.56, 0.57, 0.58]), WER, None, "step-000060")
    assert verdict.checkpoint == "step-000060"
    assert verdict.why == (
        "its validation wer 0.5500 is the lowest of 9 (the loss was lowest at step 40, where wer was 0.6500)"
    )


def of_clips(*errors: list[int]) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Evaluations and the errors of their clips of ten words."""
    clips = [
        {"step": 10 * (at + 1), "errors": {f"c{n}": [wrong, 10] for n, wrong in enumerate(some)}}
        for at, some in enumerate(errors)
    ]
    return rows([2.0, *[1.0] * len(errors)], [sum(some) / 10 / len(some) for some in errors]), clips


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (([3] * 20, [2] * 19 + [60]), "hangs on 1 of 20 validation clip (c19): without it, step 20 would be."),
        (([3] * 20, [2] * 17 + [30] * 3), "hangs on 3 of 20 validation clips (c17, c18, c19): without them, step 20"),
        (([3] * 20, [2] * 14 + [30] * 6), None),
        (([3] * 20, [4] * 20), None),
        (([3] * 20, [3] * 20), None),
        (([3] * 20, [9] * 20, [2] * 18 + [30, 40]), "without them, step 30 would be."),
    ],
)
def test_it_says_where_few_clips_choose_the_checkpoint(errors: tuple[list[int], ...], said: str | None) -> None:
    evaluations, clips = of_clips(*errors)
    sentence = diagnose(evaluations, WER, None, "step-000010", clips=clips).sentences[-1]
    assert ("hangs on" in sentence) == (said is not None) and (said is None or said in sentence)
    cer = Metric("cer", "lower")
    other = [{**row, "cer": 0.1} for row in evaluations]
    assert "hangs on" not in diagnose(other, cer, None, "x", clips=clips).sentences[-1], (
        "words' errors say nothing of it"
    )
    average = {"metric": "wer", "average": {"wer": 0.1}, "members": [], "best_single": {"checkpoint": "x", "wer": 0.2}}
    assert "hangs on" not in diagnose(evaluations, WER, None, "average-1", average, clips).sentences[-1]


def test_a_run_keeps_the_errors_of_its_validation_clips(workspace: Path, tiny_folder: Path) -> None:
    run, _ = trained(recipe_of(workspace, tiny_folder, evaluation={"decode_clips": 4, "metric": "wer"}))
    evaluations = {row["step"]: row for row in read_metrics(run, "eval")}
    clips = read_metrics(run, "clips")
    assert [row["step"] for row in clips] == [step for step in evaluations if step]
    for row in clips:
        wrong, words = map(sum, zip(*row["errors"].values(), strict=True))  # type: ignore[attr-defined]
        assert len(row["errors"]) == 4 and wrong / words == pytest.approx(evaluations[row["step"]]["wer"], abs=1e-6)  # type: ignore[arg-type]


def test_a_run_without_evaluations_is_no_crash() -> None:
    assert diagnose([], WER, None, "-").kind == "too few evaluations"


def test_patience_counts_evaluations_without_a_gain_that_counts() -> None:
    def heard(values: list[float], first: int = 0, **settings: float) -> list[bool]:
        evaluation = Evaluation(metric="loss", **settings)  # type: ignore[arg-type]
        patience = Patience(evaluation, LOSS, first)
        return [patience.seen(step, value) for step, value in enumerate(values, start=1)]

    assert heard([3, 2, 1, 1.5, 1.2, 1.1], patience=3) == [True, True, True, True, True, False]
    assert heard([3, 2, 1.99, 1.98], patience=2, min_gain=0.1) == [True, True, True, False]
    assert all(heard([1, 2, 3, 4, 5]))
    assert heard([float("inf"), float("inf")], patience=2) == [True, False]
    late = heard([1, 2, 3, 4, 5, 6], first=3, patience=2)
    assert late == [True, True, True, True, False, False], "evaluations of earlier phases do not count"


def test_the_mean_is_weighted_by_inverse_loss_and_taken_in_float64(tmp_path: Path) -> None:
    weights = inverse_loss_weights([0.5, 1.0, 2.0])
    assert weights == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    values = [torch.tensor([1.0, 1e-8]), torch.tensor([2.0, 2e-8]), torch.tensor([4.0, 4e-8])]
    for index, value in enumerate(values):
        save_file({"w": value, "steps": torch.tensor([7 + index])}, tmp_path / f"{index}")
    mean = mean_of([tmp_path / str(index) for index in range(3)], weights)
    wanted = sum(weight * value.double() for weight, value in zip(weights, values, strict=True))
    assert torch.equal(mean["w"], wanted.float())  # type: ignore[union-attr]
    assert mean["steps"].tolist() == [7], "whole numbers are taken from the first"


def test_members_that_differ_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "0")
    save_file({"b": torch.zeros(2)}, tmp_path / "1")
    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "2")
    save_file({"a": torch.zeros(3)}, tmp_path / "3")
    with pytest.raises(GovorError, match=r"do not hold the same tensors \(first: a\)"):
        mean_of([tmp_path / "0", tmp_path / "1"], [0.5, 0.5])
    for other in ("2", "3"):
        with pytest.raises(GovorError, match="'a' differs in shape or number format"):
            mean_of([tmp_path / "0", tmp_path / other], [0.5, 0.5])


def test_the_budget_is_where_the_line_of_memory_meets_the_device() -> None:
    gib = 2**30
    # 4 GiB of weights, 20 MiB a second, 8 GiB of moments to come, on 80 GiB of which a tenth is spared.
    points = [(30.0, 4 * gib + 30 * 20 * 2**20), (120.0, 4 * gib + 120 * 20 * 2**20)]
    assert largest_budget(points, 80 * gib, 8 * gib) == pytest.approx(60 * 1024 / 20, rel=1e-6)
    with pytest.raises(GovorError, match=r"needs 12.6 GiB for 30 s of audio and the GPU has 12.0 GiB"):
        largest_budget(points, 12 * gib, 8 * gib)
    flat = [(30.0, gib), (120.0, gib)]
    assert largest_budget(flat, 8 * gib, 0) > 1e6, "memory that does not grow is no division by zero"
