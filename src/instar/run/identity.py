"""What makes two runs the same: values as they are written, and data, tokenizer and model by their content."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from instar.checkpoint import manifest
from instar.checkpoint.lineage import STATE
from instar.core.errors import CheckpointError, InputMissingError
from instar.core.files.json_files import read_json
from instar.data.config import Split
from instar.data.fingerprint import source_fingerprint, stream_fingerprint
from instar.data.tokenizer import Tokenizer
from instar.model.config import FromFolder
from instar.run.config import RunConfig

FREE = (
    "output",
    "data.processes",
    "data.cache",
    "train.budget",
    "train.micro_tokens",
    "train.device",
    "train.parallel",
    "train.threads",
    "train.log_every",
    "train.metrics",
    "train.eval_every",
    "train.sample_every",
    "train.save_every",
    "train.keep_last",
    "train.best_metric",
    "train.early_stopping",
    "train.prefetch",
    "train.tensorboard",
)
"""Keys that may change when a run goes on: they cannot change what was trained so far."""

_PATH = re.compile(
    r"(?P<part>data\.(?:train|eval|test)|tokenizer|model)(?:\.sources\.\d+\.source)?\.(?:path|from|left_out)"
)
"""Keys that say where content lies."""


def _free(config: RunConfig) -> tuple[str, ...]:
    """A stage's budget says when the next begins, so it may not change."""
    return tuple(key for key in FREE if key != "train.budget") if config.stages else FREE


def run_hash(config: RunConfig) -> str:
    """Equal for two runs that make the same curve as far as both go, given the same content wherever it lies."""
    named = {key: value for key, value in flat(config, without=_free(config)).items() if not _PATH.fullmatch(key)}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def flat(config: RunConfig, without: Collection[str] = ()) -> dict[str, Any]:
    """Dotted key -> value of a run, but for some keys."""
    found: dict[str, Any] = {}

    def walk(value: Any, key: str) -> None:
        if key in without:
            return
        if isinstance(value, list) and any(isinstance(part, dict) for part in value):
            value = dict(enumerate(value))
        if isinstance(value, dict):
            for name, part in value.items():
                walk(part, f"{key}.{name}" if key else str(name))
        else:
            found[key] = value

    walk(config.model_dump(mode="json", by_alias=True), "")
    return found


def content_of(config: RunConfig, start: Path | None) -> dict[str, str]:
    """Part of a run file -> fingerprint of the content that it names; the model's is what it was at the beginning."""
    cache = config.data.cache_folder()
    sources = {"train": config.data.train, "eval": config.data.eval, "test": config.data.test}
    found = {
        f"data.{name}": stream_fingerprint(source)
        if name == "train" and config.data.streaming is not None
        else source_fingerprint(source, cache)
        for name, source in sources.items()
        if source is not None and not isinstance(source, Split)
    }
    for number, stage in enumerate(config.stages):
        if stage.data is not None:
            found[f"stages.{number}.data.train"] = source_fingerprint(stage.data.train, cache)
    if start is not None:
        saved = _recorded(start)
        return found | {name: saved[name] for name in ("model",) if name in saved}
    if isinstance(config.model, FromFolder):
        found["model"] = _model_fingerprint(Path(config.model.path))
    return found


def compare(before: RunConfig, now: RunConfig, checkpoint: Path | None) -> tuple[list[str], list[str]]:
    """(differences that make it another run, places that changed while `checkpoint` vouches for the same content).

    Both as "KEY was X, is Y". InputMissingError or DataError where nothing readable is at the new place.
    """
    free = _free(now)
    old, new = flat(before, without=free), flat(now, without=free)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    recorded = {} if checkpoint is None else _recorded(checkpoint)
    others: list[str] = []
    moved: list[str] = []
    for key in keys:
        match = _PATH.fullmatch(key)
        is_same = match is not None and match["part"] in recorded
        is_same = is_same and _fingerprint(match["part"], now) == recorded[match["part"]]  # type: ignore[index]
        (moved if is_same else others).append(f"{key} was {old.get(key)!r}, is {new.get(key)!r}")
    return others, moved


def must_have_its_base(checkpoint: Path, config: RunConfig) -> None:
    """CheckpointError unless the model that a checkpoint's adapter stands beside is where it was, and what it was.

    InputMissingError where there is none.
    """
    if not isinstance(config.model, FromFolder):
        return
    base = Path(config.model.path)
    if not base.is_dir():
        raise InputMissingError(
            f"{checkpoint}: is an adapter of the model {base}, which is not there; put the model back, or run from the "
            "folder that this path is seen from"
        )
    was, found = _recorded(checkpoint).get("model"), _model_fingerprint(base)
    if was != found:
        raise CheckpointError(
            f"{checkpoint}: is an adapter of the model that was in {base}, and another is there now (fingerprint "
            f"{found[:12]}; wanted {str(was)[:12]}); put the first one back"
        )


def _recorded(checkpoint: Path) -> dict[str, str]:
    state = read_json(checkpoint / STATE)
    if not isinstance(state, dict) or not isinstance(state.get("content"), dict):
        return {}  # saved before content was recorded
    return {**state["content"], "tokenizer": state["tokenizer_fingerprint"]}


def _fingerprint(part: str, config: RunConfig) -> str | None:
    if part == "model":
        return _model_fingerprint(Path(config.model.path)) if isinstance(config.model, FromFolder) else None
    if part == "tokenizer":
        folder = getattr(config.tokenizer, "path", None)
        return None if folder is None else Tokenizer.load(Path(folder)).fingerprint
    source = getattr(config.data, part.removeprefix("data."))
    is_source = source is not None and not isinstance(source, Split)
    return source_fingerprint(source, config.data.cache_folder()) if is_source else None


def _model_fingerprint(folder: Path) -> str:
    """Changes with the weights and the configuration; a checkpoint's are those of its manifest."""
    if (folder / manifest.NAME).is_file():
        files: Mapping[str, Any] = {manifest.NAME: manifest.sha256(folder / manifest.NAME)}
    else:
        named = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
        files = {path.name: manifest.sha256(path) for path in named if path.is_file()}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
