"""Search: against transformers' own, independent of the batch, bounded."""

import numpy as np
import pytest
import torch
from transformers.generation import GenerationMixin

from govor.families.decoding import beam, greedy
from govor.families.task import DecodeOptions
from govor.families.whisper.batches import batches_by_length, max_new_tokens
from govor.families.whisper.forward import encode
from govor.families.whisper.model import Whisper
from govor.families.whisper.search import Search
from govor.families.whisper.tiny import tiny


class Table:
    """A decoder whose next-token probabilities depend on the last token alone."""

    def __init__(self, rows: int, table: torch.Tensor) -> None:
        self.table, self.last = table.log(), torch.zeros(rows, dtype=torch.long)

    def start(self) -> torch.Tensor:
        return self.table[self.last]

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        self.last = tokens
        return self.table[self.last]

    def select(self, rows: torch.Tensor) -> None:
        self.last = self.last[rows]


# From token 0, greedy takes 1 (.6) and ends at .6·.5; the path 2, 3 has .4·1·1.
GARDEN_PATH = torch.tensor([[1e-9, 0.6, 0.4, 1e-9, 1e-9], [1e-9, 0.25, 0.25, 1e-9, 0.5], [1e-9, 1e-9, 1e-9, 1.0, 1e-9], [1e-9, 1e-9, 1e-9, 1e-9, 1.0], [0.2] * 5])  # fmt: skip


def test_greedy_takes_the_best_step_and_beam_the_best_path() -> None:
    assert greedy(Table(1, GARDEN_PATH), 4, [10])[0].tokens == [1]
    found = beam(Table(1, GARDEN_PATH), 4, [10], 3)[0]
    assert found[0].tokens == [2, 3]
    assert found[0].logprob == pytest.approx(np.log(0.4), abs=1e-4)
    assert [item.mean_logprob for item in found] == sorted((item.mean_logprob for item in found), reverse=True)


def test_a_search_that_never_ends_stops_at_its_own_limit() -> None:
    loop = torch.tensor([[1e-9, 1.0, 1e-9], [1e-9, 1.0, 1e-9], [1 / 3] * 3])
    assert [len(found.tokens) for found in greedy(Table(3, loop), 2, [2, 7, 4])] == [2, 7, 4]
    assert [len(found[0].tokens) for found in beam(Table(3, loop), 2, [2, 7, 4], 2)] == [2, 7, 4]


@pytest.fixture(scope="module")
def eager_model() -> Whisper:
    """A tiny model whose logits are spread, so that ties and immediate ends are rare."""
    whisper = tiny(seed=5)
    with torch.no_grad():
        whisper.module.model.decoder.embed_tokens.weight.mul_(12)  # type: ignore[union-attr, operator]
    return whisper


@pytest.mark.parametrize("beams", [1, 4])
@torch.inference_mode()
def test_our_search_finds_what_transformers_finds(eager_model: Whisper, beams: int) -> None:
    whisper = eager_model
    mels = [torch.randn(80, 400, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    states = encode(whisper.module, mels)
    prompt = whisper.tokens.prompt("cs")
    config = whisper.module.generation_config
    banned = sorted(
        {
            *whisper.tokens.steering_ids(),
            *range(whisper.tokens.first_timestamp, whisper.module.config.vocab_size),
        }
    )  # type: ignore[union-attr]
    from transformers.modeling_outputs import BaseModelOutput

    for row in range(3):
        theirs = GenerationMixin.generate(
            whisper.module, encoder_outputs=BaseModelOutput(states.padded[row : row + 1]), decoder_input_ids=torch.tensor([prompt]),
            num_beams=beams, max_length=24, do_sample=False, suppress_tokens=banned,
            begin_suppress_tokens=list(config.begin_suppress_tokens), early_stopping=True, length_penalty=1.0, renormalize_logits=True,
        )  # fmt: skip
        wanted = [token for token in theirs[0].tolist()[len(prompt) :] if token != whisper.tokens.end]
        decoder = Search(whisper.model, whisper.tokens, states.of([row]), torch.tensor([prompt]), 0)
        found = (
            greedy(decoder, whisper.tokens.end, [20])[0]
            if beams == 1
            else beam(decoder, whisper.tokens.end, [20], beams)[0][0]
        )
        if beams == 1 or len(wanted) == 20:
            assert found.tokens == wanted


@pytest.mark.parametrize("beams", [1, 3])
def test_how_clips_are_batched_changes_nothing(eager_model: Whisper, beams: int) -> None:
    generator = np.random.default_rng(0)
    clips = [
        generator.normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)
        for seconds in (0.4, 1.3, 0.5, 2.2, 1.4, 0.45)
    ]
    together = eager_model.transcribe(clips, ["cs", "he", "cs", "mg", "he", "bs"], DecodeOptions(beam_size=beams))
    for clip, language, found in zip(clips, ["cs", "he", "cs", "mg", "he", "bs"], together, strict=True):
        alone = eager_model.transcribe([clip], [language], DecodeOptions(beam_size=beams))[0]
        assert found.tokens == alone.tokens
        assert found.mean_logprob == pytest.approx(alone.mean_logprob, abs=1e-4)


def test_nbest_is_ordered_and_distinct(eager_model: Whisper) -> None:
    clip = np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32)
    found = eager_model.nbest(clip, "cs", 4)
    assert len(found) == 4 == len({tuple(item.tokens) for item in found})
    assert [item.mean_logprob for item in found] == sorted((item.mean_logprob for item in found), reverse=True)


def test_a_missing_language_is_detected_among_the_known(eager_model: Whisper) -> None:
    clip = np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32)
    assert (
        eager_model.transcribe([clip, clip], [None, "cs"])[1].tokens == eager_model.transcribe([clip], ["cs"])[0].tokens
    )


def test_batches_hold_one_bucket_and_every_clip_once() -> None:
    seconds = [float(value) for value in np.random.default_rng(2).uniform(0.3, 29, 200)]
    batches = batches_by_length(seconds, "speech", budget_seconds=60)
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    from govor.families.whisper.features import bucket_frames

    for batch in batches:
        edges = {bucket_frames(seconds[index]) for index in batch}
        assert len(edges) == 1
        assert len(batch) == 1 or len(batch) * edges.pop() / 100 <= 60


def test_a_clip_yields_no_more_tokens_than_its_length_allows() -> None:
    assert max_new_tokens(0.3, 448) == 60
    assert max_new_tokens(29.0, 448) == 444, "the positions less the prompt"


def test_draws_follow_the_probabilities_and_no_neighbour() -> None:
    ends = torch.tensor([[0.5, 0.3, 0.0, 0.2], *[[0.0, 0.0, 0.0, 1.0]] * 3])
    drawn = []
    for seed in range(2000):
        alone, *others = (
            greedy(Table(rows, ends), 3, [1] * rows, 1.0, torch.Generator().manual_seed(seed))[-1] for rows in (1, 3)
        )
        assert others[0].tokens == alone.tokens
        drawn.append(alone.tokens[0] if alone.tokens else 3)
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert shares == pytest.approx([0.5, 0.3, 0.0, 0.2], abs=0.04) and shares[2] == 0
