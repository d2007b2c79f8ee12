"""Greedy and beam search over any decoder with a cache, many clips at once.

Every row is searched as if it were alone: its own length limit, no influence of its neighbours, rows that are done
leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

# No language's speech needs more byte-level tokens in a second than this (fast Ge'ez: about 30).
# Without a bound a model that loops writes until its positions end.
MAX_TOKENS_PER_SECOND = 40
# So much audio is transcribed together.
BATCH_AUDIO_SECONDS = 120.0


class StepDecoder(Protocol):
    """A batch of decoders in lockstep."""

    def start(self) -> torch.Tensor:
        """Log-probabilities [rows, vocabulary] of the first token after the prompt."""
        ...

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append `tokens` [rows] and give the log-probabilities of the next."""
        ...

    def select(self, rows: torch.Tensor) -> None:
        """Keep, reorder or repeat rows."""
        ...


@dataclass(slots=True)
class Candidate:
    """Tokens without the end token, and the sum of log-probabilities with it."""

    tokens: list[int]
    logprob: float
    ended: bool = False

    @property
    def mean_logprob(self) -> float:
        """Per token, the end token counted."""
        return self.logprob / (len(self.tokens) + 1)


def greedy(
    decoder: StepDecoder,
    end: int,
    max_tokens: Sequence[int],
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[Candidate]:
    """The most probable token at each step, for every row until its end token or its limit.

    With a temperature a token is drawn instead, from probabilities raised to its inverse; the log-probabilities that are
    summed up stay those of the model.
    """
    results = [Candidate([], 0.0) for _ in max_tokens]
    rows = list(range(len(max_tokens)))
    logprobs = decoder.start()
    while True:
        if temperature > 0:
            tokens = _drawn(logprobs / temperature, generator).to(logprobs.device)
            best = logprobs.gather(1, tokens[:, None])[:, 0]
        else:
            best, tokens = logprobs.max(dim=-1)
        alive = []
        for place, (row, token, logprob) in enumerate(zip(rows, tokens.tolist(), best.tolist(), strict=True)):
            candidate = results[row]
            candidate.logprob += logprob
            if token == end:
                candidate.ended = True
                continue
            candidate.tokens.append(token)
            if len(candidate.tokens) < max_tokens[row]:
                alive.append(place)
        if not alive:
            return results
        if len(alive) < len(rows):
            still = torch.tensor(alive, device=tokens.device)
            decoder.select(still)
            tokens, rows = tokens[still], [rows[place] for place in alive]
        logprobs = decoder.advance(tokens)


def _drawn(logits: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One token for each row [R, V]: where its cumulative probability passes a number drawn for all, so that a row draws the
    same whatever its neighbours are."""
    sums = torch.softmax(logits.cpu().double(), dim=-1).cumsum(dim=-1)
    number = torch.rand((), generator=generator, dtype=torch.float64)
    return torch.searchsorted(sums, number * sums[:, -1:], right=True)[:, 0]


@dataclass(slots=True)
class _Beam:
    row: int
    limit: int
    live: list[Candidate] = field(default_factory=lambda: [Candidate([], 0.0)])
    done: list[Candidate] = field(default_factory=list)

    def extend(self, logprobs: torch.Tensor, end: int, size: int, at: int) -> list[tuple[int, int]]:
        """Choose the next hypotheses; returns (place in the batch, token) of each that goes on."""
        scores = (
            torch.tensor([candidate.logprob for candidate in self.live], device=logprobs.device)[:, None] + logprobs
        )
        top = scores.flatten().topk(min(2 * size, scores.numel()))
        chosen, vocabulary = [], logprobs.shape[-1]
        next_live: list[Candidate] = []
        for rank, (score, index) in enumerate(zip(top.values.tolist(), top.indices.tolist(), strict=True)):
            parent, token = divmod(index, vocabulary)
            if token == end:
                # An end outside the best `size` would never have been reached by a single search.
                if rank < size:
                    self.done.append(Candidate(self.live[parent].tokens, score, ended=True))
                continue
            if len(next_live) < size:
                next_live.append(Candidate([*self.live[parent].tokens, token], score))
                chosen.append((at + parent, token))
        self.live = next_live
        if len(self.done) >= size:
            return []
        if len(self.live[0].tokens) >= self.limit:
            self.done += self.live
            return []
        return chosen


def beam(decoder: StepDecoder, end: int, max_tokens: Sequence[int], size: int) -> list[list[Candidate]]:
    """Beam search; per row the finished hypotheses, best mean log-probability first.

    A row ends when `size` hypotheses have ended (patience 1) or at its limit.
    """
    beams = [_Beam(row, limit) for row, limit in enumerate(max_tokens)]
    active = beams
    logprobs = decoder.start()
    while active:
        places: list[int] = []
        tokens: list[int] = []
        still, at = [], 0
        for item in active:
            width = len(item.live)
            chosen = item.extend(logprobs[at : at + width], end, size, at)
            at += width
            if chosen:
                still.append(item)
                places += [place for place, _ in chosen]
                tokens += [token for _, token in chosen]
        active = still
        if active:
            decoder.select(torch.tensor(places, device=logprobs.device))
            logprobs = decoder.advance(torch.tensor(tokens, device=logprobs.device))
    return [sorted(item.done, key=lambda candidate: -candidate.mean_logprob) for item in beams]
