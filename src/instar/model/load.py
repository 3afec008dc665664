"""Models from folders: safetensors and JSON only, no code of the folder's ever runs."""

import json
from pathlib import Path
from typing import Any

import torch

from instar.core.errors import DataError, InputMissingError
from instar.core.seeds import derive
from instar.model.architecture import Vocabulary, set_dropout
from instar.model.classes import model_class
from instar.model.config import FromFolder
from instar.model.initialise import initialise
from instar.model.network import LoadReport
from instar.model.quiet import quiet


def load_model(
    config: FromFolder, head: str, tokenizer: Vocabulary, extra: dict[str, Any], seed: int
) -> tuple[Any, LoadReport]:
    """The folder's model with the head asked for, and what was fresh or skipped.

    Raises InputMissingError (no folder, no config.json, no safetensors) or DataError (unreadable, or does not fit).
    """
    folder = Path(config.path)
    hf_config = _read_config(folder)
    if tokenizer.vocab_size > hf_config.vocab_size:
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
    except Exception as error:  # noqa: BLE001  safetensors, JSON and Transformers each raise their own kinds
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{folder}: the weights cannot be read: {reason}") from None
    mismatched = {name for name, *_ in info["mismatched_keys"]}
    fresh = {*info["missing_keys"], *mismatched}
    _check_backbone(folder, model, fresh)
    initialise(model, seed, fresh)
    report = LoadReport(str(folder), tuple(sorted(fresh)), tuple(sorted({*info["unexpected_keys"], *mismatched})))
    return model, report


def _read_config(folder: Path) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    path = folder / "config.json"
    if not path.is_file():
        raise InputMissingError(f"{path}: no such file; wanted a model folder with config.json and model.safetensors")
    if not any(folder.glob("*.safetensors")):
        raise InputMissingError(f"{folder}: no .safetensors file; other formats are not read, convert the model first")
    if (folder / "adapter_config.json").exists():
        raise DataError(f"{folder}: this is an adapter, not a whole model; merge it into its model first")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        family = values["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: wanted a model's configuration with a model_type; {error!r}") from None
    if family not in CONFIG_MAPPING:
        raise DataError(f"{path}: architecture {family!r} is not one of Transformers'")
    kept = {name: value for name, value in values.items() if name != "auto_map" and not name.startswith("_")}
    try:
        return CONFIG_MAPPING[family].from_dict(kept)
    except Exception as error:  # noqa: BLE001  Transformers' checks raise many kinds
        raise DataError(f"{path}: {' '.join(str(error).split())[:300]}") from None


def _check_backbone(folder: Path, model: Any, fresh: set[str]) -> None:
    """A head may be new; a body with holes is a damaged folder."""
    prefix = f"{model.base_model_prefix}."
    holes = sorted(name for name in fresh if name.startswith(prefix) and ".pooler." not in name)
    if holes:
        shown = ", ".join(holes[:5]) + (f" and {len(holes) - 5} more" if len(holes) > 5 else "")
        raise DataError(f"{folder}: the model's body is not whole; missing or of another shape: {shown}")
