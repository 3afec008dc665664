"""A model whose tables follow another tokenizer's numbers: a token that both know keeps its row.

Shape letters: V tokens of the new tokenizer.
"""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from instar.core.errors import DataError
from instar.core.seeds import derive
from instar.model.architecture import Vocabulary, position_offset, special_ids
from instar.model.initialise import initialise


def resize_by_token(model: Any, rows_V: NDArray[np.int64], tokenizer: Vocabulary, seed: int) -> tuple[Any, set[str]]:
    """(a model of the same class over `tokenizer`, the names of its tables), everything but the tables as it was.

    `rows_V` has, for each token, its row in the tables of `model`; -1: none, and the row is initialised anew.
    DataError where positions are counted from the padding token and its number would change.
    """
    config = copy.deepcopy(model.config)
    if position_offset(config.model_type, tokenizer.pad_id) != position_offset(config.model_type, config.pad_token_id):
        raise DataError(
            f"resize_embeddings: {config.model_type} counts positions from the padding token, which is "
            f"{config.pad_token_id} in the model and {tokenizer.pad_id} in the tokenizer; give it the same number"
        )
    names = table_names(model)
    config.vocab_size = tokenizer.vocab_size
    for name, number in special_ids(tokenizer).items():
        setattr(config, name, number)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init"))
        resized = type(model)._from_config(config)
    initialise(resized, seed, names)
    _copy(model, resized, names, torch.from_numpy(rows_V))
    return resized, names


def table_names(model: Any) -> set[str]:
    """Names of the parameters that have a row, or a number, for each token; tied ones once."""
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    whole = {id(parameter) for table in tables if isinstance(table, nn.Module) for parameter in table.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in whole}


@torch.no_grad()
def _copy(old: Any, new: Any, tables: set[str], rows_V: torch.Tensor) -> None:
    given, buffers = dict(old.named_parameters()), dict(old.named_buffers())
    kept_V = rows_V >= 0
    for name, parameter in new.named_parameters():
        if name in tables:
            parameter[kept_V] = given[name][rows_V[kept_V]]
        else:
            parameter.copy_(given[name])
    for name, buffer in new.named_buffers():
        if name in buffers and buffers[name].shape == buffer.shape:
            buffer.copy_(buffers[name])
