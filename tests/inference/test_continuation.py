"""A continuation is a function of the seed and the prompt alone, at any length."""

import numpy as np
import torch

from instar.inference.continuation import continue_ids
from tests.model.helpers import VOCAB, network

PROMPT = [5, 9, 11]


def test_it_depends_on_the_seed_and_on_nothing_else() -> None:
    built = network("gpt2", "causal_lm", dropout=0.5)
    first = continue_ids(built, PROMPT, 12, seed=3)
    torch.manual_seed(99)
    np.random.seed(99)
    before = torch.get_rng_state()
    assert continue_ids(built, PROMPT, 12, seed=3) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert built.training
    assert first[:3] == PROMPT
    assert len(first) == 15
    assert set(first) <= set(range(VOCAB))
    assert continue_ids(built, PROMPT, 12, seed=4) != first
    assert continue_ids(built, PROMPT, 5, seed=3) == first[:8]


def test_the_window_slides_where_positions_end() -> None:
    """The next token follows from the last `max_length` tokens, whatever stood before them."""
    built = network("gpt2", "causal_lm")
    assert built.max_length == 32
    tail = [5 + number % 40 for number in range(32)]
    long = continue_ids(built, [7] * 50 + tail, 20, seed=1)
    assert len(long) == 102
    assert long[50:] == continue_ids(built, tail, 20, seed=1)


def test_a_low_temperature_takes_the_likeliest_token() -> None:
    built = network("gpt2", "causal_lm")
    greedy = [continue_ids(built, PROMPT, 8, seed=seed, temperature=1e-6) for seed in (1, 2)]
    assert greedy[0] == greedy[1]
