"""What the ranks of a run compare before they train: the run, the checkpoint, the data and the network."""

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import torch

from instar.checkpoint import manifest
from instar.core.errors import CheckpointError, DataError, UsageError
from instar.core.files.plain import read_plain
from instar.data.cache import TokenCache
from instar.model import Network
from instar.model.config import FromFolder
from instar.run.config import RunConfig
from instar.run.corpus import Corpus
from instar.run.identity import flat, run_hash
from instar.trainer import Runtime
from instar.trainer.agreement import agree
from instar.trainer.snapshot import OPTIMIZER

OWN = (
    "output",
    "data.processes",
    "data.cache",
    "train.device",
    "train.threads",
    "train.prefetch",
    "train.tensorboard",
)
"""Keys of a run file that each host may set for itself."""
_NONE = "no checkpoint: a run from its beginning"
_SHOWN = 16


def versions() -> dict[str, str]:
    """Of Python and of what decides a curve."""
    packages = ("instar", "torch", "transformers", "tokenizers", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def agree_on_run(config: RunConfig, resume: str, runtime: Runtime) -> None:
    """UsageError on all ranks where one has another run file, other versions, or another kind of device."""
    if runtime.world_size == 1:
        return
    values = {key: json.dumps(value) for key, value in flat(config).items() if key not in OWN}
    own = {"source code of instar": _source_digest(), "kind of device": runtime.device.type, "--resume": resume}
    agree(runtime, versions() | own | values | {"run hash": run_hash(config)[:_SHOWN]}, UsageError)


def agree_on_checkpoint(start: Path | None, runtime: Runtime, *, is_verified: bool) -> None:
    """CheckpointError on all ranks where one does not see the whole checkpoint that the main process chose."""
    if runtime.world_size == 1:
        return
    facts = {"checkpoint": _NONE} if start is None else {start.name: _seen(start, is_verified=is_verified)}
    agree(runtime, facts, CheckpointError)


def _seen(checkpoint: Path, *, is_verified: bool) -> str:
    """What this host has in a checkpoint's folder, in a few words."""
    try:
        if not is_verified:
            manifest.verify(checkpoint)
        return f"{manifest.NAME} {hashlib.sha256(read_plain(checkpoint / manifest.NAME)).hexdigest()[:_SHOWN]}"
    except (CheckpointError, OSError) as error:
        return str(error)


def agree_on_input(config: RunConfig, corpus: Corpus, network: Network, runtime: Runtime) -> None:
    """DataError on all ranks where one has other data, another tokenizer, other labels or another network."""
    if runtime.world_size == 1:
        return
    facts = {"tokenizer": corpus.tokenizer.fingerprint[:_SHOWN], "labels": repr(corpus.labels)}
    for name, cached in (("train", corpus.train), ("eval", corpus.evaluation), ("test", corpus.test)):
        if isinstance(cached, TokenCache):
            facts[f"data.{name}"] = f"content {cached.fingerprint[:_SHOWN]}, {cached.num_documents:,} documents"
    facts["network"] = _network_digest(network)
    agree(runtime, facts | _past(config), DataError)


def _past(config: RunConfig) -> dict[str, str]:
    """What a run takes from the folder that it begins from, beside weights, which come from the main process."""
    if not isinstance(config.model, FromFolder):
        return {}
    folder = Path(config.model.path)
    names = ("state.json", "run.yaml", *([OPTIMIZER] if config.model.with_optimizer else []))
    there = [folder / name for name in names if (folder / name).is_file()]
    return {f"model.from: {path.name}": f"SHA-256 {manifest.sha256(path)[:_SHOWN]}" for path in there}


def _network_digest(network: Network) -> str:
    """Of the configuration, and of the names, shapes and types of all tensors."""
    tensors: Mapping[str, torch.Tensor] = network.state_dict(keep_vars=True)
    shapes = {name: [str(tensor.dtype), *tensor.shape] for name, tensor in tensors.items()}
    described = json.dumps([network.model.config.to_dict(), shapes], sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:_SHOWN]


@cache
def _source_digest() -> str:
    """Of the code that runs: two checkouts may have one version."""
    root = Path(str(files("instar")))
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:_SHOWN]
