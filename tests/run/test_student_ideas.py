"""What DistilBERT leaves out of BERT is left out of every recipe (docs/decisions/0015)."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from instar.cli.init import recipes
from instar.config.load import load
from instar.data.tokenizer import Character, build_tokenizer
from instar.model.architecture import architecture
from instar.model.classes import model_class
from instar.model.config import FromConfig
from instar.run.config import RunConfig
from instar.task import StepContext, Task
from tests.batches import packed
from tests.model.helpers import Words

RECIPES = {name: load(Path(str(path)), RunConfig).value for name, path in recipes().items()}
MASKED = [name for name, config in RECIPES.items() if config.task.kind == "mlm"]


@pytest.mark.parametrize("name", MASKED)
def test_a_text_is_masked_anew_each_time_it_is_read(name: str) -> None:
    tokenizer = build_tokenizer(Character(), lambda: iter(["abcdefghijklmnop"]))
    task, batch = RECIPES[name].task.build(tokenizer), packed([40] * 20, vocab_size=tokenizer.vocab_size)
    hidden = [task.prepare(batch, StepContext(seed=1, step=step, progress=0.0)).read_M for step in (7, 7, 8)]
    assert torch.equal(hidden[0], hidden[1])
    assert not np.array_equal(hidden[0].numpy(), hidden[2].numpy())


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("text")])
def test_no_recipe_for_text_has_a_table_of_segments(name: str) -> None:
    config = RECIPES[name].model
    assert isinstance(config, FromConfig)
    hf_config = architecture(config, Words())
    head = "causal_lm" if RECIPES[name].task.kind == "causal_lm" else "masked_lm"
    with torch.device("meta"):
        model = model_class(hf_config, head)(hf_config)
    assert not [found for found, _ in model.named_parameters() if "token_type" in found]


def test_no_task_asks_which_sentence_comes_next() -> None:
    kinds = {kind for union in get_args(Task)[:1] for member in get_args(union) for kind in (member().kind,)}
    assert kinds == {"mlm", "causal_lm", "classify"}


@pytest.mark.parametrize("name", RECIPES)
def test_the_step_of_a_recipe_is_whole_and_memory_may_cut_it(name: str) -> None:
    """Large batches by accumulation: `micro_tokens` is no part of what makes the curve."""
    from instar.run.identity import run_hash

    config = RECIPES[name]
    pieces = config.model_copy(update={"train": config.train.model_copy(update={"micro_tokens": 64})})
    assert config.train.micro_tokens is None
    assert run_hash(pieces) == run_hash(config)
