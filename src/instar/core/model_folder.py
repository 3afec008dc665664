"""What a folder in Transformers' layout must be before anything in it is read.

Only names, kinds of files, their first bytes and the index of weights are looked at.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from instar.core.errors import DataError, InputMissingError

_READ = (".safetensors", ".json", ".txt", ".jinja", ".model", ".bpe")
_POINTER = b"version https://git-lfs"
_LARGEST_POINTER = 1024
_LARGEST_INDEX = 64 << 20
_GGUF = (
    "weights in GGUF format, which instar does not read; take the folder that it was made from, or convert it: "
    "`AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=NAME).save_pretrained(NEW)` of Transformers"
)


def must_be_model_folder(path: Path, *, may_be_adapter: bool = False) -> None:
    """DataError or InputMissingError if `path` is something else than a whole model; a path to nothing passes.

    It names what is there instead: a GGUF file, an adapter, a folder of the hub's cache, a pointer of Git LFS, a link
    to nothing.
    """
    if path.is_file():
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
        kind = f"a GGUF file: {_GGUF}" if is_gguf else "a file; expected a folder with config.json and .safetensors"
        raise DataError(f"{path}: this is {kind}")
    if not path.is_dir():
        return
    _must_be_no_cache(path)
    if (path / "adapter_config.json").exists() and not may_be_adapter:
        raise DataError(
            f"{path}: this is an adapter (PEFT), not a whole model; merge it into its base model "
            "(`merge_and_unload()`, then `save_pretrained(NEW)`) and give the new folder"
        )
    gguf = next(path.glob("*.gguf"), None)
    if gguf is not None and not any(path.glob("*.safetensors")):
        raise DataError(f"{gguf}: {_GGUF}")
    must_have_whole_files(path)
    _must_name_its_own_shards(path)


def _must_name_its_own_shards(folder: Path) -> None:
    """DataError for an index of weights that names files of another folder."""
    for path in sorted(folder.glob("*.safetensors.index.json")):
        size = path.stat().st_size
        try:
            if size > _LARGEST_INDEX:
                raise ValueError(f"it has {size:,} bytes")
            names = {str(name) for name in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{path}: expected an index of weights, with a `weight_map`; {reason}") from None
        for name in sorted(names):
            if Path(name).name != name:
                raise DataError(f"{path}: names {name!r} for weights; expected names of files in this folder alone")
            must_lie_in(folder, folder / name)


def must_lie_in(folder: Path, path: Path) -> None:
    """DataError for a link that leads out of the folder; the hub's cache keeps what a snapshot links to in `blobs`."""
    if not path.is_symlink():
        return
    home, target = folder.resolve(), path.resolve()
    roots = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
    if not any(target.is_relative_to(root) for root in roots):
        raise DataError(f"{path}: is a link out of its folder, to {target}; put a copy of the file in its place")


def must_have_whole_files(folder: Path) -> None:
    """DataError or InputMissingError for a file of a model or tokenizer that is there in name only."""
    for path in _files(folder):
        if path.is_symlink() and not path.exists():
            raise InputMissingError(
                f"{path}: is a link to {path.readlink()}, which does not exist; copy the folder with what its links "
                "lead to (`cp -rL`), or download it again"
            )
        if path.is_dir():
            continue
        if not path.is_file():
            raise DataError(f"{path}: is no plain file")
        if path.stat().st_size <= _LARGEST_POINTER and path.read_bytes().startswith(_POINTER):
            raise DataError(
                f"{path}: is a pointer of Git LFS, not the file itself, which was not downloaded; run `git lfs pull` "
                "in the repository that it is from"
            )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix in _READ)


def _must_be_no_cache(folder: Path) -> None:
    snapshots = folder / "snapshots"
    if (folder / "config.json").exists() or not snapshots.is_dir():
        return
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    main = folder / "refs" / "main"
    named = snapshots / main.read_text(encoding="utf-8").strip() if main.is_file() else None
    meant = named if named in found else (found[-1] if found else None)
    hint = f"did you mean {meant}?" if meant is not None else "it holds no snapshot; download the model again"
    raise InputMissingError(f"{folder}: this is a folder of the hub's cache, not a model; {hint}")
