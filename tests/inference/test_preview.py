"""What a run shows of a few rows while it trains."""

from typing import Any

import numpy as np
import pytest
import torch

from instar.data import Batch
from instar.data.tokenizer import Bpe, Tokenizer, build_tokenizer
from instar.inference.preview import Preview
from instar.model import FromConfig, Network, build_network
from instar.task import CausalLM
from instar.task.answer import next_token
from tests.model.helpers import SIZE

TEXTS = ["the river runs under the bridge", "snow on the stone", "a small stone sings under the bridge"] * 20


def tokenizer() -> Tokenizer:
    return build_tokenizer(Bpe(vocab_size=280), lambda: iter(TEXTS))


def causal(max_length: int = 120) -> Network:
    config = FromConfig(config="gpt2", **(SIZE | {"max_length": max_length, "initializer_range": 0.3}))
    return build_network(config, head="causal_lm", tokenizer=tokenizer(), seed=5)


def batch(prompts: list[int] | None = None) -> Batch:
    documents = [one.ids for one in tokenizer().encode_batch(TEXTS[:3])]
    none_D = np.zeros(3, dtype=np.int64)
    return Batch(
        ids_T=torch.from_numpy(np.concatenate(documents)).long(),
        lengths=tuple(map(len, documents)),
        samples_D=none_D,
        epochs_D=none_D,
        prompts_D=None if prompts is None else torch.tensor(prompts),
    )


def previewed(network: Network, given: Batch | None = None) -> list[dict[str, Any]]:
    made = tokenizer()
    rows = Preview(network=network, task=CausalLM().build(made), tokenizer=made, seed=3).rows(given or batch())
    return list(rows)


def test_all_prompts_go_on_in_one_batch_and_each_token_is_read_once() -> None:
    network = causal().train()
    read: list[tuple[int, ...]] = []
    network.model.get_input_embeddings().register_forward_pre_hook(lambda _, given: read.append(tuple(given[0].shape)))
    rows = previewed(network)
    assert 1 < len(read) <= next_token.NEW_TOKENS
    assert {shape[0] for shape in read} == {3}
    assert {shape[1] for shape in read[1:]} == {1}
    assert network.training
    assert [row["kind"] for row in rows] == ["causal_lm"] * 3
    assert all(text.startswith(row["prompt"]) for text, row in zip(TEXTS, rows, strict=False))
    assert rows == previewed(network)


def test_weights_in_parts_go_on_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their attention and their head are those of the packed network alone."""
    monkeypatch.setattr(next_token, "in_parts", lambda _: True)
    monkeypatch.setattr(next_token, "Generator", None)
    assert all(row["completion"] for row in previewed(causal()))


@pytest.mark.parametrize("max_length", [2, 9, 40])
def test_a_short_context_is_no_obstacle(max_length: int) -> None:
    rows = previewed(causal(max_length))
    assert len(rows) == 3


def test_what_is_asked_is_the_prompt_of_a_pair() -> None:
    rows = previewed(causal(), batch([4, 2, 5]))
    first = tokenizer().encode_batch(TEXTS[:1])[0].ids[:4].tolist()
    assert rows[0]["prompt"] == tokenizer().decode(first)
