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
from instar.model import Head, build_network
from instar.model.config import FromFolder
from instar.model.load import read_model_config
from instar.model.speed import use_fast_cpu
from instar.run.begin import Origin
from instar.run.build import PROBLEMS
from instar.run.labels import Labels
from instar.run.saved import Ready, take_up
from instar.task import TaskConfig, default_task
from instar.trainer import Runtime


def take_up_any(folder: Path, wanted: type[TaskConfig] | None = None) -> Ready:
    """A checkpoint of instar, or a folder with config.json, safetensors and a tokenizer; no code in it is run.

    UsageError for a model of another task than the one that is wanted, DataError for one whose head was never trained.
    """
    must_be_model_folder(folder, may_be_adapter=(folder / STATE).is_file())
    ready = _external(folder, wanted) if _is_external(folder) else take_up(folder)
    _must_be(folder, ready.task.head, wanted)
    return ready


def _must_be(folder: Path, head: Head, wanted: type[TaskConfig] | None) -> None:
    if wanted is not None and head != wanted.head:
        raise UsageError(f"{folder}: wanted a model that {wanted.does}; this one {default_task(head).does}")


def _is_external(folder: Path) -> bool:
    ours = ("run.yaml", STATE, manifest.NAME)
    return (folder / "config.json").is_file() and not any((folder / name).is_file() for name in ours)


def _external(folder: Path, wanted: type[TaskConfig] | None) -> Ready:
    origin = Origin.of(folder)
    head = origin.head or (None if wanted is None else wanted.head)
    if head is None:
        raise DataError(f"{folder}: config.json names no task in `architectures`; it is a backbone without a head")
    _must_be(folder, head, wanted)
    task = default_task(head)
    tokenizer = Tokenizer.load(folder)
    config = read_model_config(folder)
    labels = (origin.labels or _numbered(config)) if task.learns_labels else Labels(kind="none", names=None)
    runtime = Runtime.start("auto", "float32")
    if runtime.device.type == "cpu":
        use_fast_cpu()
    network = build_network(
        FromFolder(path=str(folder)),
        head=head,
        tokenizer=tokenizer,
        num_labels=labels.num_outputs,
        problem_type=PROBLEMS[labels.kind] if task.learns_labels else None,
        seed=0,
    )
    if network.loaded.fresh:
        raise DataError(
            f"{folder}: has no weights for {', '.join(network.loaded.fresh[:5])}, so its answers would be random; "
            f"train it first, with model: {{from: {folder}}}"
        )
    return Ready(
        folder=folder,
        tokenizer=tokenizer,
        labels=labels,
        task=task.build(tokenizer),
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
