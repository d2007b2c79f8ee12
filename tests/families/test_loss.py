"""Cross-entropy in pieces."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from govor.families.loss import cross_entropy_sum


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_in_pieces_it_is_the_loss_and_the_gradient_of_the_whole(
    smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    head, states, targets = nn.Linear(16, 50), torch.randn(23, 16), torch.randint(0, 50, (23,))
    rows: list[int] = []
    head.register_forward_hook(lambda _module, _inputs, output: rows.append(len(output)))
    results = []
    for chunk in (100, 7):
        monkeypatch.setattr("govor.families.loss.CHUNK_TOKENS", chunk)
        rows.clear()
        head.zero_grad()
        hidden = states.clone().requires_grad_()
        loss = cross_entropy_sum(head, hidden, targets, smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        assert max(rows) <= chunk, "no more logits than that are made at once"
        assert head.weight.grad is not None and hidden.grad is not None
        results.append((loss.detach(), head.weight.grad.clone(), hidden.grad))
    wanted = F.cross_entropy(head(states), targets, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(results[0][0], wanted.detach())
    for whole, pieces in zip(*results, strict=True):
        torch.testing.assert_close(whole, pieces)


def test_no_taught_token_is_no_loss() -> None:
    head = nn.Linear(4, 9)
    loss = cross_entropy_sum(head, torch.randn(0, 4, requires_grad=True), torch.zeros(0, dtype=torch.long))
    assert loss.item() == 0.0
