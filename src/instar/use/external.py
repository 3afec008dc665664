"""A model folder in Transformers' layout, taken up for use as if it were a checkpoint of instar."""

import json
from pathlib import Path
from typing import Any

from instar.checkpoint import manifest
from instar.checkpoint.lineage import STATE
from instar.core.errors import DataError, UsageError
from instar.core.model_folder import must_be_model_folder
from instar.data.labels import LabelKind
from instar.data.tokenizer import Tokenizer
from instar.model import build_network
from instar.model.config import FromFolder
from instar.model.load import read_model_config
from instar.model.speed import use_fast_cpu
from instar.run.begin import Origin
from instar.run.build import PROBLEMS
from instar.run.labels import Labels
from instar.run.saved import Ready, take_up
from instar.task import CausalLM, Classify, MaskedLM
from instar.task.base import HeadName
from instar.trainer import Runtime

_TASKS = {"masked_lm": MaskedLM, "causal_lm": CausalLM, "classify": Classify}
_DOES = {"masked_lm": "fills in tokens", "causal_lm": "writes text", "classify": "classifies"}


def take_up_any(folder: Path, head: HeadName | None = None) -> Ready:
    """A checkpoint of instar, or a folder with config.json, safetensors and a tokenizer; no code in it is run.

    UsageError for a model that does something else than `head`, DataError for one whose head was never trained.
    """
    must_be_model_folder(folder)
    ready = _foreign(folder, head) if _is_foreign(folder) else take_up(folder)
    if head is not None and ready.task.head != head:
        raise UsageError(f"{folder}: wanted a model that {_DOES[head]}; this one {_DOES[ready.task.head]}")
    return ready


def _is_foreign(folder: Path) -> bool:
    ours = ("run.yaml", STATE, manifest.NAME)
    return (folder / "config.json").is_file() and not any((folder / name).is_file() for name in ours)


def _foreign(folder: Path, head: HeadName | None) -> Ready:
    origin = Origin.of(folder)
    known = origin.head or head
    if known is None:
        raise DataError(f"{folder}: config.json names no task in `architectures`; it is a body without a head")
    if head is not None and known != head:
        raise UsageError(f"{folder}: wanted a model that {_DOES[head]}; this one {_DOES[known]}")
    tokenizer = Tokenizer.load(folder)
    config = read_model_config(folder)
    labels = (origin.labels or _numbered(config)) if known == "classify" else Labels(kind="none", names=None)
    runtime = Runtime.start("auto", "float32")
    if runtime.device.type == "cpu":
        use_fast_cpu()
    network = build_network(
        FromFolder(path=str(folder)),
        head=known,
        tokenizer=tokenizer,
        num_labels=labels.num_outputs,
        problem_type=PROBLEMS[labels.kind] if known == "classify" else None,
        seed=0,
    )
    if network.loaded.fresh:
        raise DataError(
            f"{folder}: has no weights for {', '.join(network.loaded.fresh[:5])}, so its answers would be chance; "
            f"train it first, with model: {{from: {folder}}}"
        )
    return Ready(
        folder=folder,
        tokenizer=tokenizer,
        labels=labels,
        task=_TASKS[known]().build(tokenizer),
        network=network.to(runtime.device),
        runtime=runtime,
        end_ids=_ends(folder, config, tokenizer),
    )


def _numbered(config: dict[str, Any]) -> Labels:
    """Labels as Transformers calls them where nobody named them; one alone is a number."""
    names = config.get("id2label") or {}
    count = len(names) or int(config.get("num_labels") or 2)
    if count == 1 and config.get("problem_type") is None:
        return Labels(kind="number", names=None)
    kind: LabelKind = "many" if config.get("problem_type") == "multi_label_classification" else "class"
    return Labels(kind=kind, names=tuple(str(names.get(str(number), f"LABEL_{number}")) for number in range(count)))


def _ends(folder: Path, config: dict[str, Any], tokenizer: Tokenizer) -> frozenset[int] | None:
    """All tokens that end a text: a model that talks has one for a turn and one for a document."""
    try:
        given = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError, RecursionError):
        given = None
    named = config.get("eos_token_id") if given is None else given
    numbers = [*(named if isinstance(named, list) else [named]), tokenizer.eos_id]
    found = frozenset(number for number in numbers if isinstance(number, int))
    return found or None
