"""The one seam to any Transformers model: packed documents in, hidden states where they are read out.

Shape letters: T tokens, D documents, L longest document, M read places, H width, V vocabulary or labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from instar.core.errors import ConfigError
from instar.model.adapter import Injected, read_adapter, write_adapter
from instar.model.attention import Pack
from instar.model.classes import Head
from instar.model.compact import CompactEmbedding, whole_embedding
from instar.model.cross_entropy import Scores
from instar.model.gather import MOST_READ
from instar.model.heads import LanguageHead, OutputHead, dense_cross_entropy
from instar.model.layer_heads import (
    PREFIX,
    HeadKey,
    HeadSpec,
    check_specs,
    make_module,
    output_head,
    write_heads,
)
from instar.model.quiet import quiet


class PackedRow(Protocol):
    """What the network reads of a batch."""

    @property
    def ids_T(self) -> Tensor:
        """Token ids of the documents, end to end."""
        ...

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each document."""
        ...

    @property
    def read_M(self) -> Tensor | None:
        """Ascending places whose hidden states are read; None: all."""
        ...

    @property
    def types_T(self) -> Tensor | None:
        """Segment of each token, for models that tell the parts of a document apart; None: one part."""
        ...

    def positions_T(self) -> Tensor:
        """Position of each token in its own document."""
        ...


Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoadReport:
    """What came from the folder a network was loaded from, by the names of tensors."""

    folder: str | None = None
    fresh: tuple[str, ...] = ()
    """Tensors of the network that the folder does not have: initialised anew."""
    skipped: tuple[str, ...] = ()
    """Tensors of the folder that the network has no place for, of another shape, or of a head that is not kept."""
    resized: tuple[str, ...] = ()
    """Tables that follow another vocabulary: rows of tokens that the folder knows are kept."""
    averaged: int = 0
    """Tensors that came from a moving average of the folder's weights."""
    shapes: Mapping[str, tuple[Shape | None, Shape | None]] = field(default_factory=dict)
    """(in the folder, in the network) of every tensor named; None: there is none."""


class Forward:
    """What a network says at the M places that are read (at the D documents, for a classifier)."""

    with_entropy = False
    """Whether cross entropies come with entropies; to be set before one is asked for."""

    def __init__(self, hidden: Mapping[int, Tensor], heads: Mapping[int, OutputHead]) -> None:
        """`heads`: by layer."""
        self._hidden = hidden
        self._heads = heads

    def hidden_MH(self, layer: int = -1) -> Tensor:
        """Hidden states of a layer that was asked for."""
        return self._hidden[layer]

    def logits_MV(self, layer: int = -1) -> Tensor:
        """The answer of the head at a layer that was asked for, whole; LookupError where there is no head."""
        return self._head(layer).logits(self._hidden[layer])

    def cross_entropy(self, target_M: Tensor, layer: int = -1) -> Scores:
        """How well the head at a layer predicts the targets; for a language head, by chunks."""
        return self._head(layer).cross_entropy(self._hidden[layer], target_M, with_entropy=self.with_entropy)

    def _head(self, layer: int) -> OutputHead:
        head = self._heads.get(layer)
        if head is None:
            raise LookupError(f"layer {layer} has no head of this task; heads are at the layers {sorted(self._heads)}")
        return head


class DenseForward(Forward):
    """The answer of a model whose head is not known: whole logits, last layer only."""

    def __init__(self, logits_MV: Tensor) -> None:
        self._logits_MV = logits_MV

    def hidden_MH(self, layer: int = -1) -> Tensor:
        raise NotImplementedError(f"layer {layer}: hidden states need an architecture whose head is known")

    def logits_MV(self, layer: int = -1) -> Tensor:
        return self._logits_MV if layer == -1 else self.hidden_MH(layer)

    def cross_entropy(self, target_M: Tensor, layer: int = -1) -> Scores:
        return dense_cross_entropy(self.logits_MV(layer), target_M, with_entropy=self.with_entropy)


class Network(nn.Module):
    """A Transformers model with its head; runs packed rows."""

    def __init__(
        self,
        model: Any,
        *,
        head: OutputHead | None,
        pooling: str | None,
        is_packed: bool,
        position_offset: int,
        can_gather: bool,
    ) -> None:
        """Wrap `model`; `head` None means the model's own forward makes whole logits; `pooling` None: no classifier."""
        super().__init__()
        self.model = model
        self.head = head
        self.pooling = pooling
        self.is_packed = is_packed
        self.can_gather = can_gather
        self.loaded = LoadReport()
        self.own_task: Head | None = None
        """What the model's own head predicts; None where nobody knows."""
        self.heads = nn.ModuleDict()
        """Parameters of the heads beside the model's own."""
        self.specs: dict[HeadKey, HeadSpec] = {}
        """Of the heads beside the model's own."""
        self.adapter: Injected | None = None
        """What stands beside the frozen model; then only it is saved."""
        self.position_offset = position_offset
        """Number of the first position of a text."""
        positions = getattr(model.config, "max_position_embeddings", None)
        self.max_length: int | None = None if positions is None else int(positions) - position_offset
        """Tokens a document may have, specials included; None: no limit."""

    @property
    def num_parameters(self) -> int:
        """Trained numbers, tied ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def offsets_positions(self) -> bool:
        """True where the model numbers positions from its padding id on, and so looks for that id."""
        return self.position_offset != 0

    @property
    def num_layers(self) -> int:
        """Layers of the model; 12 where its configuration does not say."""
        return int(getattr(self.model.config, "num_hidden_layers", None) or 12)

    @property
    def width(self) -> int:
        """Numbers in a hidden state; 768 where its configuration does not say."""
        return int(getattr(self.model.config, "hidden_size", None) or 768)

    def train(self, mode: bool = True) -> "Network":  # noqa: FBT001
        """Training mode, but for what is frozen: a module all of whose parameters are frozen stays in evaluation mode.

        Everything that sets the mode of a network, or of what wraps it, comes through here.
        """
        super().train(mode)
        if mode:
            for module in self.modules():
                parameters = list(module.parameters())
                if parameters and not any(parameter.requires_grad for parameter in parameters):
                    module.train(False)
        return self

    def take_adapter(self, folder: Path) -> None:
        """Take the adapter's weights that `save` wrote; DataError unless the folder holds exactly those."""
        read_adapter(folder, self.model)

    def add_heads(self, specs: Sequence[HeadSpec], seed: int) -> None:
        """Hold further heads, to be trained: those that are held already keep their weights, others begin fresh.

        Fresh weights are a function of the seed and their names. Call it before the optimizer is made. ConfigError with
        all that is wrong with the heads.
        """
        projection = self._projection()
        if specs and self.adapter is not None:
            raise ConfigError(["model.adapter: heads at inner layers cannot be trained beside an adapter"])
        if specs and self.head is None:
            family = self.model.config.model_type
            raise ConfigError([f"{family}: its own head is not known, so inner layers cannot have heads either"])
        kept = [spec for key, spec in self.specs.items() if key not in {one.key for one in specs}]
        check_specs([*kept, *specs], self.num_layers, has_projection=projection is not None)
        before = _shapes(self.heads)
        fresh = [spec for spec in specs if self.specs.get(spec.key) != spec]
        for spec in fresh:
            self.heads[spec.name] = make_module(spec, self.model, seed)
            self.specs[spec.key] = spec
        for spec in specs:
            self.heads[spec.name].requires_grad_(True)
        self._report({spec.name for spec in fresh}, before)

    def _report(self, fresh: set[str], before: Mapping[str, Shape]) -> None:
        """Note in the load report which further heads are fresh, some of them in place of others."""
        mine = {name: shape for name, shape in _shapes(self.heads).items() if name.split(".")[0] in fresh}
        self.loaded = replace(
            self.loaded,
            fresh=(*self.loaded.fresh, *(f"{PREFIX}{name}" for name in mine)),
            skipped=(*self.loaded.skipped, *(f"{PREFIX}{name}" for name in mine if name in before)),
            shapes={**self.loaded.shapes, **{f"{PREFIX}{name}": (before.get(name), mine[name]) for name in mine}},
        )

    def forward(self, batch: PackedRow, layers: Sequence[int] = (-1,), task: Head | None = None) -> Forward:
        """Hidden states of the layers (0: embeddings, -1: last) at the read positions, with the heads that read them.

        `task` chooses the heads; None: those of the model's own task. A classifier reads one vector a document,
        whatever `batch.read_M` says. LookupError for a task that has no head.
        """
        pooling = self._pooling_of(task)
        read_M = batch.read_M if pooling is None else _pooled_positions(batch, pooling)
        if self.head is None:
            return DenseForward(self._dense_logits(batch, read_M))
        layers = tuple(dict.fromkeys(layers))
        hidden = self._packed(batch, read_M, layers) if self.is_packed else self._padded(batch, read_M, layers)
        if pooling == "mean":
            hidden = {layer: _mean_DH(hidden_TH, batch.lengths) for layer, hidden_TH in hidden.items()}
        return Forward(hidden, self._heads_of(task))

    def compact_embedding(self, used_ids: Sequence[int]) -> None:
        """Train only the table's rows of these ids (all that training and evaluation will meet).

        Call it before the optimizer is made, and again, with the same ids, before its state is read back. Saving
        writes the whole table. ValueError for a language head, which uses every row.
        """
        embedding = self.model.get_input_embeddings()
        if self.pooling is None:
            raise ValueError("a language head uses the whole table; only a classifier's embedding can be cut down")
        self.model.set_input_embeddings(CompactEmbedding(embedding, torch.tensor(used_ids, dtype=torch.int64)))

    def name_labels(self, names: Sequence[str]) -> None:
        """Write the classes' names, by number, into config.json, so that Transformers shows them."""
        self.model.config.id2label = dict(enumerate(names))
        self.model.config.label2id = {name: number for number, name in enumerate(names)}

    def checkpoint_activations(self) -> None:
        """Keep only each layer's input for the backward pass, and compute the rest again: less memory, more time."""
        enable = getattr(self.model, "activation_checkpointing_enable", None)  # named otherwise before 5.23
        options = {"use_reentrant": False}
        if enable is None:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        else:
            enable(options)

    def compile_body(self, **options: Any) -> None:
        """Compile the model's body (for a GPU; on a CPU it costs more than it gives)."""
        self.model.base_model.compile(**options)

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write config.json and model.safetensors, as Transformers loads them, and further heads beside them.

        Of a network with an adapter: the adapter alone, as PEFT loads it beside the model that the network began from.
        `weights`: tensors to write in place of the network's own, by its names, where those are only parts.
        """
        if self.adapter is not None:
            trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
            own = dict(self.state_dict()) if weights is None else weights
            adapted = {name.removeprefix("model."): own[name] for name in sorted(trained)}
            write_adapter(folder, self.adapter, adapted)
            return
        if weights is not None:
            named = {
                name.removeprefix("model."): tensor for name, tensor in weights.items() if not name.startswith(PREFIX)
            }
            with quiet():
                self.model.save_pretrained(folder, state_dict=named)
        else:
            with quiet(), whole_embedding(self.model):
                self.model.save_pretrained(folder)
        if self.specs:
            own = dict(self.state_dict()) if weights is None else weights
            heads = {name: tensor for name, tensor in own.items() if name.startswith(PREFIX)}
            write_heads(folder, self.specs.values(), heads)

    def _projection(self) -> nn.Linear | None:
        return self.head.projection if isinstance(self.head, LanguageHead) else None

    def _pooling_of(self, task: Head | None) -> str | None:
        if task is None or task == self.own_task:
            return self.pooling
        spec = next((spec for spec in self.specs.values() if spec.task == task), None)
        if spec is None:
            raise LookupError(f"there is no head for {task}; this network has {self.own_task} and {list(self.specs)}")
        return spec.pooling

    def _heads_of(self, task: Head | None) -> dict[int, OutputHead]:
        """By layer, those of a task."""
        is_own = task is None or task == self.own_task
        found: dict[int, OutputHead] = {-1: self.head} if is_own and self.head is not None else {}
        wanted = self.own_task if is_own else task
        for spec in self.specs.values():
            if spec.task == wanted:
                found[spec.layer] = output_head(self.heads[spec.name], self._projection())
        return found

    def _packed(self, batch: PackedRow, read_M: Tensor | None, layers: Sequence[int]) -> dict[int, Tensor]:
        few = read_M is not None and 0 < len(read_M) <= MOST_READ * len(batch.ids_T)
        gathers = self.can_gather and few
        pack = Pack(batch.lengths, batch.ids_T.device, read_M if gathers else None)
        deeper = tuple(layers) != (-1,)
        output = self.model.base_model(
            input_ids=batch.ids_T[None],
            position_ids=(batch.positions_T() + self.position_offset)[None],
            attention_mask=torch.ones_like(batch.ids_T)[None],
            pack=pack,
            use_cache=False,
            **({} if batch.types_T is None else {"token_type_ids": batch.types_T[None]}),
            **({"output_hidden_states": True} if deeper else {}),
        )
        return {
            layer: _layer(output, layer)[0] if gathers and layer == -1 else _at(_layer(output, layer)[0], read_M)
            for layer in layers
        }

    def _padded(self, batch: PackedRow, read_M: Tensor | None, layers: Sequence[int]) -> dict[int, Tensor]:
        ids_DL, mask_DL = _pad(batch, self.model.config.pad_token_id)
        output = self.model.base_model(input_ids=ids_DL, attention_mask=mask_DL, output_hidden_states=True)
        return {layer: _at(_layer(output, layer)[mask_DL.bool()], read_M) for layer in layers}

    def _dense_logits(self, batch: PackedRow, read_M: Tensor | None) -> Tensor:
        ids_DL, mask_DL = _pad(batch, self.model.config.pad_token_id)
        logits: Tensor = self.model(input_ids=ids_DL, attention_mask=mask_DL).logits
        return logits if self.pooling is not None else _at(logits[mask_DL.bool()], read_M)


def _pooled_positions(batch: PackedRow, pooling: str) -> Tensor | None:
    """Of the token of each document that a classifier reads; None: it reads them all."""
    if pooling == "mean":
        return None
    lengths_D = torch.tensor(batch.lengths, dtype=torch.int64)
    ends_D = lengths_D.cumsum(0)
    positions_D = ends_D - lengths_D if pooling == "first" else ends_D - 1
    return positions_D.to(batch.ids_T.device, non_blocking=True)


def _shapes(module: nn.Module) -> dict[str, Shape]:
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def _layer(output: Any, layer: int) -> Tensor:
    states: Tensor = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    return states


def _at(hidden_TH: Tensor, read_M: Tensor | None) -> Tensor:
    return hidden_TH if read_M is None else hidden_TH.index_select(0, read_M)


def _pad(batch: PackedRow, pad_id: int | None) -> tuple[Tensor, Tensor]:
    """Documents as rows, and 1 where a token is real."""
    rows = batch.ids_T.split(list(batch.lengths))
    ids_DL = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=pad_id or 0)
    lengths_D = torch.tensor(batch.lengths, device=ids_DL.device)
    mask_DL = torch.arange(ids_DL.shape[1], device=ids_DL.device)[None] < lengths_D[:, None]
    return ids_DL, mask_DL.to(torch.int64)


def _mean_DH(hidden_TH: Tensor, lengths: tuple[int, ...]) -> Tensor:
    lengths_D = torch.tensor(lengths, device=hidden_TH.device)
    documents_T = torch.repeat_interleave(torch.arange(len(lengths), device=hidden_TH.device), lengths_D)
    sums_DH = hidden_TH.new_zeros(len(lengths), hidden_TH.shape[1]).index_add_(0, documents_T, hidden_TH)
    return sums_DH / lengths_D[:, None]
