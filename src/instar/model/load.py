"""Models from folders: safetensors and JSON only, no code of the folder's ever runs."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.core.errors import ConfigError, DataError, InputMissingError
from instar.core.limits import raise_if_limited
from instar.core.model_folder import must_be_model_folder
from instar.core.seeds import derive
from instar.model.architecture import Vocabulary, set_dropout
from instar.model.classes import model_class
from instar.model.config import FromFolder
from instar.model.initialise import initialise
from instar.model.longer import set_max_length
from instar.model.memory import own_memory
from instar.model.network import LoadReport, Shape
from instar.model.quiet import quiet
from instar.model.resize import resize_by_token

_MAX_TENSORS = 100_000
_MIN_LAYERS = 200
_MAX_TABLES = 1 << 28
"""Numbers of a model that are computed from its configuration and that the weights do not hold, like positions."""
_MIN_LABELS, _MAX_LABELS = 1000, 1_000_000


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A folder whose network goes on as another: with another head, over another vocabulary."""

    source: FromFolder
    keeps_head: bool = True
    """False: the head is new, even where the folder's would fit."""
    rows_V: NDArray[np.int64] | None = None
    """For each token of the tokenizer its row in the folder's tables, -1 for none; None: the numbers are the same."""
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """Taken in place of the folder's, by the names that a network gives its parameters."""


def load_model(
    crossing: Crossing, head: str, tokenizer: Vocabulary, extra: dict[str, Any], seed: int
) -> tuple[Any, LoadReport]:
    """The folder's model with the head asked for, and what came of every tensor.

    Raises InputMissingError (no folder, no config.json, no safetensors) or DataError (unreadable, or does not fit).
    """
    config = crossing.source
    folder = Path(config.path)
    hf_config = _read_config(folder)
    if crossing.rows_V is None and tokenizer.vocab_size > hf_config.vocab_size:
        raise DataError(
            f"{folder}: the model knows {hf_config.vocab_size} tokens and the tokenizer makes {tokenizer.vocab_size}; "
            "use the tokenizer that was saved with the model"
        )
    for name, value in extra.items():
        setattr(hf_config, name, value)
    if config.dropout is not None:
        set_dropout(hf_config, config.dropout)
    kind = model_class(hf_config, head)
    try:
        _must_be_of_its_size(kind, hf_config, folder)
        if config.max_length is not None:
            set_max_length(kind, hf_config, config.max_length)
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "init"))
            model, info = kind.from_pretrained(
                folder,
                config=hf_config,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (ConfigError, DataError):
        raise
    except Exception as error:  # noqa: BLE001  safetensors, JSON and Transformers each raise their own kinds
        raise_if_limited(error)
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{folder}: the weights cannot be read: {reason}") from None
    return _crossed(model, _Found.of(folder, info), crossing, tokenizer, seed)


@dataclass
class _Found:
    """What a folder held for a model."""

    folder: Path
    fresh: set[str]
    skipped: set[str]
    shapes: dict[str, Shape]
    """Of the folder's tensors, by the folder's names."""
    mismatched: dict[str, Shape]

    @classmethod
    def of(cls, folder: Path, info: Mapping[str, Any]) -> "_Found":
        mismatched = {name: tuple(shape) for name, shape, _ in info["mismatched_keys"]}
        return cls(
            folder=folder,
            fresh={*info["missing_keys"], *mismatched},
            skipped={*info["unexpected_keys"], *mismatched},
            shapes=_shapes(folder),
            mismatched=mismatched,
        )


def _crossed(model: Any, found: _Found, crossing: Crossing, tokenizer: Vocabulary, seed: int) -> tuple[Any, LoadReport]:
    """The loaded model with its holes filled, as the crossing wants it."""
    _check_backbone(model, found)
    _must_be_finite(model, found)
    taken = _take(model, crossing.weights, found.fresh)
    if not crossing.keeps_head:
        head = _head_names(model)
        found.skipped |= head - found.fresh
        found.fresh |= head
    initialise(model, seed, found.fresh)
    before = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    resized: set[str] = set()
    if crossing.rows_V is not None:
        model, tables = resize_by_token(model, crossing.rows_V, tokenizer, seed)
        resized = tables - found.fresh
    own_memory(model)
    shapes: dict[str, tuple[Shape | None, Shape | None]] = {
        name: (None if name in found.fresh else before[name], tuple(parameter.shape))
        for name, parameter in model.named_parameters()
    }
    for name in found.skipped:
        in_folder = found.mismatched.get(name) or found.shapes.get(name) or before.get(name)
        shapes[name] = (in_folder, shapes.get(name, (None, None))[1])
    report = LoadReport(
        folder=str(found.folder),
        fresh=tuple(sorted(found.fresh & shapes.keys())),  # not the second name of a tied one
        skipped=tuple(sorted(found.skipped)),
        resized=tuple(sorted(resized)),
        averaged=taken,
        shapes=shapes,
    )
    return model, report


def _read_config(folder: Path) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    path = folder / "config.json"
    must_be_model_folder(folder)
    if not path.is_file():
        raise InputMissingError(f"{path}: no such file; wanted a model folder with config.json and model.safetensors")
    if not any(folder.glob("*.safetensors")):
        raise InputMissingError(f"{folder}: no .safetensors file; other formats are not read, convert the model first")
    values = read_model_config(folder)
    if values.get("quantization_config") is not None:
        raise DataError(
            f"{path}: this model is quantised (quantization_config), and instar reads plain weights; take the model "
            "that it was made from, or write it out with `model.dequantize().save_pretrained(NEW)` of Transformers"
        )
    _must_be_bounded(values, folder)
    family = values["model_type"]
    if family not in CONFIG_MAPPING:
        raise DataError(f"{path}: architecture {family!r} is not one of Transformers'")
    kept = {name: value for name, value in values.items() if name != "auto_map" and not name.startswith("_")}
    try:
        return CONFIG_MAPPING[family].from_dict(kept)
    except Exception as error:  # noqa: BLE001  Transformers' checks raise many kinds
        raise DataError(f"{path}: {' '.join(str(error).split())[:300]}") from None


def _must_be_bounded(values: Mapping[str, Any], folder: Path) -> None:
    """DataError for sizes in config.json that the weights' headers belie, before anything is made of them.

    A layer has a tensor of its own unless layers are shared, and a label has a row in some tensor.
    """
    shapes = _shapes(folder)
    if len(shapes) > _MAX_TENSORS:
        raise DataError(f"{folder}: holds {len(shapes):,} tensors; expected at most {_MAX_TENSORS:,}")
    longest = max((size for shape in shapes.values() for size in shape), default=0)
    limits = dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), max(len(shapes), _MIN_LAYERS))
    limits |= dict.fromkeys(("num_labels", "_num_labels"), min(max(longest, _MIN_LABELS), _MAX_LABELS))
    for name, limit in limits.items():
        value = values.get(name)
        if isinstance(value, int | float) and not value <= limit:
            raise DataError(
                f"{folder / 'config.json'}: {name} is {value:,}, and the weights ({len(shapes):,} tensors, the longest "
                f"of {longest:,}) are of at most {limit:,}"
            )


def read_model_config(folder: Path) -> dict[str, Any]:
    """The values of a folder's config.json; DataError where it is damaged or names no `model_type`."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        str(values["model_type"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: wanted a model's configuration with a model_type; {error!r}") from None
    return dict(values)


def _shapes(folder: Path) -> dict[str, Shape]:
    """Names and shapes of the model's tensors as the folder has them; only headers are read.

    DataError for a file that is damaged.
    """
    from safetensors import safe_open

    found: dict[str, Shape] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                if len(names) > _MAX_TENSORS:
                    raise DataError(f"{path}: holds {len(names):,} tensors; expected at most {_MAX_TENSORS:,}")
                found |= {name: tuple(file.get_slice(name).get_shape()) for name in names}
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001  safetensors raises its own kinds
            raise_if_limited(error)
            raise DataError(f"{path}: the weights cannot be read: {' '.join(str(error).split())[:300]}") from None
    return found


def has_masked_head(folder: Path) -> bool:
    """Whether the weights hold a masked language model's head in BERT's or ALBERT's layout, whatever else they hold."""
    return any(name.removeprefix("cls.").startswith("predictions.") for name in _shapes(folder))


def _must_be_of_its_size(kind: Any, hf_config: Any, folder: Path) -> None:
    """DataError before memory is taken for a model that the folder cannot hold: its config.json is of another one."""
    with quiet(), torch.device("meta"):
        model = kind(hf_config)
    wanted = sum(parameter.numel() for parameter in model.parameters())
    tables = sum(buffer.numel() for buffer in model.buffers())
    if tables > _MAX_TABLES:
        raise DataError(
            f"{folder / 'config.json'}: asks for computed tables of {tables:,} numbers; expected at most "
            f"{_MAX_TABLES:,}; are its lengths right (max_position_embeddings)?"
        )
    found = sum(math.prod(shape) for shape in _shapes(folder).values())
    if wanted > 2 * found:
        raise DataError(
            f"{folder}: config.json is of another architecture or size: a {hf_config.model_type} of {wanted:,} "
            f"numbers, and the folder holds {found:,}"
        )


def _is_body(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and ".pooler." not in name


def _check_backbone(model: Any, found: _Found) -> None:
    """A head may be new; a body with holes, other shapes or parts too many is a damaged folder."""
    prefix = f"{model.base_model_prefix}."
    wanted = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    holes = []
    for name in sorted(name for name in found.fresh if _is_body(name, prefix)):
        got = list(found.mismatched[name]) if name in found.mismatched else "nothing"
        holes.append(f"{name} (wanted {wanted.get(name, 'a tensor')}; got {got})")
    is_bare = not any(name.startswith(prefix) for name in found.shapes)  # a body saved without a head has no prefix
    holes += [
        f"{name} (the architecture has no such tensor; got {list(found.shapes.get(name, ()))})"
        for name in sorted(found.skipped - set(found.mismatched))
        if _is_body(prefix + name if is_bare else name, prefix)
    ]
    if holes:
        shown = "; ".join(holes[:5]) + (f" and {len(holes) - 5} more" if len(holes) > 5 else "")
        raise DataError(
            f"{found.folder}: the model's body is not whole, or config.json is of another architecture: {shown}"
        )


def _must_be_finite(model: Any, found: _Found) -> None:
    """DataError for weights that are no numbers."""
    bad = [
        name
        for name, parameter in model.named_parameters()
        if name not in found.fresh and not bool(torch.isfinite(parameter.detach().sum(dtype=torch.float64)))
    ]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(f"{found.folder}: NaN or infinite weights in {', '.join(bad[:5])}{more}; take the model again")


def _head_names(model: Any) -> set[str]:
    """Parameters of the head alone: not those it shares with the body."""
    prefix = f"{model.base_model_prefix}."
    return {name for name, _ in model.named_parameters() if not name.startswith(prefix)}


@torch.no_grad()
def _take(model: Any, weights: Mapping[str, Tensor], but: set[str]) -> int:
    """Put `weights` in place where names and shapes agree; how many did."""
    taken = 0
    for name, parameter in model.named_parameters():
        given = weights.get(f"model.{name}")
        if given is not None and name not in but and given.shape == parameter.shape:
            parameter.copy_(given)
            taken += 1
    return taken
