"""From a model section to a network: fresh, or from a folder."""

from typing import Any, Literal

import torch

from instar.core.errors import ConfigError
from instar.core.seeds import derive
from instar.model.activation import swap_activations
from instar.model.adapter import inject, with_effect
from instar.model.architecture import Vocabulary, architecture, position_offset
from instar.model.classes import Head, Pooling, model_class
from instar.model.config import FromConfig, FromFolder
from instar.model.dropout import swap_dropout
from instar.model.gather import gather_last_layer
from instar.model.heads import OutputHead, classifier_head, default_pooling, language_head
from instar.model.initialise import initialise
from instar.model.load import Crossing, load_model
from instar.model.load_heads import carry_heads
from instar.model.network import LoadReport, Network
from instar.model.packing import gathers_alike, notice, pack_model
from instar.model.size import must_be_trainable_here

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


def build_network(
    config: FromFolder | FromConfig | Crossing,
    *,
    head: Head,
    tokenizer: Vocabulary,
    num_labels: int | None = None,
    problem_type: ProblemType | None = None,
    pooling: Pooling | None = None,
    seed: int,
) -> Network:
    """A network on the CPU, in evaluation mode, in float32.

    Weights that the folder does not give are functions of `seed` and their names; `network.loaded` names them. A
    `Crossing` says what of the folder goes on. Heads that the folder holds beside the model's own are carried along,
    frozen, until `add_heads` asks for them.
    Raises ConfigError, InputMissingError (no folder) or DataError (a folder or tokenizer that does not fit).
    """
    if head == "classify" and not num_labels:
        raise ConfigError([f"num_labels: a classifier wants at least one label, got {num_labels}"])
    extra = _task_fields(head, num_labels, problem_type)
    crossing = None
    if isinstance(config, FromConfig):
        hf_config = architecture(config, tokenizer)
        for name, value in extra.items():
            setattr(hf_config, name, value)
        model = _empty(hf_config, head, seed)
        initialise(model, seed)
        report = LoadReport()
    else:
        crossing = config if isinstance(config, Crossing) else Crossing(source=config)
        model, report = load_model(crossing, head, tokenizer, extra, seed)
    adapter = None
    chosen = None if crossing is None else crossing.source.adapter
    if crossing is not None and chosen is not None:
        adapter = inject(model, chosen, base=crossing.source.path, task=head, fresh=report.fresh, seed=seed)
    network = _wrap(model, head, pooling, is_changed=adapter is not None)
    network.loaded, network.adapter = report, adapter
    if crossing is not None:
        carry_heads(network, crossing)
    return network.eval()


def _task_fields(head: Head, num_labels: int | None, problem_type: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"use_cache": False}
    if head == "classify":
        fields |= {"num_labels": num_labels, "problem_type": problem_type}
    return fields


def _empty(hf_config: Any, head: Head, seed: int) -> Any:
    """The model with the family's own initialisation, a function of the seed; torch's generator is left as it was."""
    kind = model_class(hf_config, head)
    try:
        must_be_trainable_here(kind, hf_config)
    except (RuntimeError, OverflowError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError([f"model: {hf_config.model_type} refuses these values: {reason}"]) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init"))
        try:
            return kind._from_config(hf_config)
        except (ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError([f"model: {hf_config.model_type} refuses these values: {reason}"]) from error


def _wrap(model: Any, head: Head, pooling: Pooling | None, *, is_changed: bool) -> Network:
    """The model behind the seam; what was changed about its modules (an adapter) may cost it a fast path."""
    family = model.config.model_type
    model.eval()
    parts: OutputHead | None = classifier_head(model) if head == "classify" else language_head(model)
    offset = position_offset(family, model.config.pad_token_id)
    with with_effect(model):
        is_packed = parts is not None and pack_model(model, offset, is_changed=is_changed)
    if parts is None:
        notice(f"{family}: its {head} head is not known, so it runs whole on padded rows (slower, same results)")
    elif not is_packed:
        notice(f"{family}: it cannot run on packed rows, so it runs on padded ones (slower, same results)")
    swap_dropout(model)
    swap_activations(model)
    gathers = is_packed and gather_last_layer(model)
    if gathers and is_changed:
        with with_effect(model):
            gathers = gathers_alike(model, offset)
    pooled = (pooling or default_pooling(model)) if head == "classify" else None
    network = Network(
        model, head=parts, pooling=pooled, is_packed=is_packed, position_offset=offset, can_gather=gathers
    )
    network.own_task = head
    return network
