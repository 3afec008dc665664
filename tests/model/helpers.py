"""Tiny models, packed batches, and the stock model on the same documents, padded."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.data.batch import Batch
from instar.model import FromConfig, Network, build_network

VOCAB = 97
LENGTHS = (9, 17, 3, 12)
SIZE = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "max_length": 32, "dropout": 0.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "modernbert": {"local_attention": 6},
    "mistral": {"sliding_window": 5, "num_key_value_heads": 1},
    "llama": {"num_key_value_heads": 1},
}
MASKED = ["bert", "roberta", "distilbert", "modernbert", "electra", "albert"]
CAUSAL = ["gpt2", "llama", "qwen2", "mistral"]
FAMILIES = [(family, "masked_lm") for family in MASKED] + [(family, "causal_lm") for family in CAUSAL]


@dataclass
class Words:
    """A tokenizer as far as a network looks at it."""

    vocab_size: int = VOCAB
    pad_id: int | None = 0
    cls_id: int | None = 2
    sep_id: int | None = 3
    mask_id: int | None = 4
    bos_id: int | None = None
    eos_id: int | None = None


def network(family: str, head: str = "masked_lm", *, seed: int = 1, **options: Any) -> Network:
    labels = options.pop("num_labels", 3) if head == "classify" else None
    task = {name: options.pop(name) for name in ("pooling", "problem_type") if name in options}
    fields = SIZE | OPTIONS.get(family, {}) | options
    built = build_network(
        FromConfig(config=family, **fields), head=head, tokenizer=Words(), num_labels=labels, seed=seed, **task
    )
    return built.train()


def batch(lengths: tuple[int, ...] = LENGTHS, *, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        ids_T=torch.randint(5, VOCAB, (sum(lengths),), generator=generator),
        lengths=tuple(lengths),
        samples_D=np.arange(len(lengths)),
        epochs_D=np.zeros(len(lengths), dtype=np.int64),
    )


def prepared(head: str, lengths: tuple[int, ...] = LENGTHS, *, seed: int = 0) -> Batch:
    """With targets, as a task would set them; document 2 of the masked one has none."""
    plain = batch(lengths, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    if head == "masked_lm":
        first, last = plain.boundaries[2:4]
        free = [place for place in range(plain.num_tokens) if not first <= place < last]
        chosen = torch.tensor(free)[torch.randperm(len(free), generator=generator)[:7]]
        return replace(plain, read_M=chosen.sort().values, target_M=torch.randint(5, VOCAB, (7,), generator=generator))
    if head == "causal_lm":
        ends = {end - 1 for end in plain.boundaries[1:]}
        read_M = torch.tensor([place for place in range(plain.num_tokens) if place not in ends])
        return replace(plain, read_M=read_M, target_M=plain.ids_T[read_M + 1])
    return replace(plain, target_M=torch.arange(len(lengths)) % 3)


def stock(built: Network) -> Any:
    """The same weights in the unmodified model, attending by Transformers' own functions."""
    model = type(built.model)(copy.deepcopy(built.model.config))
    model.load_state_dict(built.model.state_dict())
    model.set_attn_implementation("sdpa")
    return model.train(built.training)


def padded(ready: Batch, head: str) -> dict[str, Tensor]:
    rows = ready.ids_T.split(list(ready.lengths))
    ids_DL = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    mask_DL = (torch.arange(ids_DL.shape[1])[None] < torch.tensor(ready.lengths)[:, None]).long()
    labels = ready.target_M
    if head == "masked_lm":
        labels_T = torch.full((ready.num_tokens,), -100)
        labels_T[ready.read_M] = ready.target_M
        labels = torch.full(ids_DL.shape, -100)
        labels[mask_DL.bool()] = labels_T
    elif head == "causal_lm":
        labels = ids_DL.masked_fill(mask_DL == 0, -100)
    return {"input_ids": ids_DL, "attention_mask": mask_DL, "labels": labels}


def mean_loss(built: Network, ready: Batch) -> Tensor:
    return built(ready).cross_entropy(ready.target_M).nll_M.sum() / ready.num_targets


def assert_same_gradients(ours: torch.nn.Module, theirs: torch.nn.Module, tolerance: float = 1e-5) -> None:
    """Norm-wise for each parameter; gradients that are zero but for rounding are measured against the largest."""
    mine, other = dict(ours.named_parameters()), dict(theirs.named_parameters())
    assert mine.keys() == other.keys()
    largest = max(float(value.grad.norm()) for value in other.values() if value.grad is not None)
    for name, parameter in other.items():
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        got = torch.zeros_like(wanted) if mine[name].grad is None else mine[name].grad
        allowed = tolerance * max(float(wanted.norm()), 1e-2 * largest)
        assert float((got - wanted).norm()) <= allowed, name
