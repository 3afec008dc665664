"""A thousand tampered checkpoints: each is detected before a tensor is read."""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.checkpoint.protocol import newest, verify
from instar.checkpoint.tensors import read_tensors
from instar.core.errors import CheckpointError
from instar.core.files.json_files import from_json, read_json, to_json
from instar.core.rundir import RunFolder

FILES = ["MANIFEST.json", "model.safetensors", "optimizer.safetensors", "state.json", "tokenizer/vocabulary.txt"]


def _truncate(folder: Path, other: Path, chance: random.Random) -> None:
    path = folder / chance.choice(FILES)
    os.truncate(path, chance.randrange(path.stat().st_size))


def _flip(folder: Path, other: Path, chance: random.Random) -> None:
    path = folder / chance.choice(FILES)
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _grow(folder: Path, other: Path, chance: random.Random) -> None:
    with (folder / chance.choice(FILES)).open("ab") as file:
        file.write(chance.choice([b"\n", b"\0", b" " * 9]))


def _delete(folder: Path, other: Path, chance: random.Random) -> None:
    (folder / chance.choice(FILES)).unlink()


def _swap(folder: Path, other: Path, chance: random.Random) -> None:
    one, two = (folder / name for name in chance.sample(FILES, 2))
    one.rename(folder / "aside")
    two.rename(one)
    (folder / "aside").rename(two)


def _add(folder: Path, other: Path, chance: random.Random) -> None:
    name = chance.choice(
        ["pytorch_model.bin", ".hidden", "tokenizer/more", "model-00002.safetensors", "sub/__init__.py"]
    )
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(chance.randbytes(chance.randrange(4)))


def _foreign(folder: Path, other: Path, chance: random.Random) -> None:
    name = chance.choice(FILES[:4])
    shutil.copy(other / name, folder / name)


def _edit_state(folder: Path, other: Path, chance: random.Random) -> None:
    state = json.loads((folder / "state.json").read_text())
    state["step"] = chance.choice([2, 7, 10**9])
    (folder / "state.json").write_bytes(to_json(state))


def _edit_manifest(folder: Path, other: Path, chance: random.Random) -> None:
    path = folder / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    files = manifest["files"]
    entry = files[chance.choice(list(files))]
    change: Callable[[], object] = chance.choice(
        [
            lambda: entry.update(size=chance.choice([entry["size"] + 1, -1, True, None, 1.0 * entry["size"], "9"])),
            lambda: entry.update(sha256=chance.choice([entry["sha256"][:-1], entry["sha256"].upper(), None, "0" * 64])),
            lambda: entry.update(more=1),
            lambda: entry.pop("size"),
            lambda: files.pop(chance.choice(list(files))),
            lambda: files.update(
                {chance.choice(["../outside", "/etc/hostname", "a/../state.json", "", "."]): dict(entry)}
            ),
            lambda: manifest.update(version=chance.choice([0, 2, "1", None])),
            lambda: manifest.update(format="else"),
            lambda: manifest.update(name="checkpoint-2"),
            lambda: manifest.update(more=[]),
            lambda: manifest.update(files=chance.choice([[], None, {"a": 1}])),
        ]
    )
    change()
    path.write_bytes(to_json(manifest))


def _link(folder: Path, other: Path, chance: random.Random) -> None:
    path = folder / chance.choice([*FILES, "tokenizer", "one-more"])
    if path.name == "one-more":
        path.symlink_to(other / "state.json")
        return
    target = folder.parent / f"target-{path.name}"
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
        shutil.rmtree(path)
    else:
        shutil.copy(path, target)
        path.unlink()
    path.symlink_to(target)


def _pipe(folder: Path, other: Path, chance: random.Random) -> None:
    path = folder / chance.choice(FILES)
    path.unlink()
    os.mkfifo(path)


KINDS = [_truncate, _flip, _grow, _delete, _swap, _add, _foreign, _edit_state, _edit_manifest, _link, _pipe]


def _refusal(folder: Path) -> str:
    try:
        verify(folder)
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("part", range(4))
def test_every_tampered_checkpoint_is_detected(run: RunFolder, save: Callable[[int], Path], part: int) -> None:
    whole, other = save(1), save(2)
    chance = random.Random(part)
    missed = []
    for number in range(250):
        tamper = KINDS[number % len(KINDS)]
        place = run.path / f"mutant-{number}" / "checkpoint-1"
        shutil.copytree(whole, place)
        tamper(place, other, chance)
        if not _refusal(place).startswith(str(place)):
            missed.append((number, tamper.__name__))
        shutil.rmtree(place.parent)
    assert missed == []
    verify(whole)


def test_a_tampered_newest_gives_way_to_the_one_before(run: RunFolder, save: Callable[[int], Path]) -> None:
    save(1)
    chance = random.Random(5)
    for tamper in KINDS:
        tamper(save(2), run.checkpoint(1), chance)
        said: list[str] = []
        assert newest(run, warn=said.append) == run.checkpoint(1)
        assert len(said) == 1


def test_a_checkpoint_under_the_name_of_another_step_is_refused(run: RunFolder, save: Callable[[int], Path]) -> None:
    save(1).rename(run.checkpoint(7))
    with pytest.raises(CheckpointError, match="published as 'checkpoint-1'"):
        verify(run.checkpoint(7))
    run.checkpoint(7).rename(run.path / "my-model")
    verify(run.path / "my-model")


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, '{"a": 1, "a": 2}', "NaN", "[Infinity]", "\x00", "'a'", '"\udc80"']
)
def test_bad_json_is_one_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(CheckpointError, match=r"state\.json"):
        read_json(path)
    with pytest.raises(ValueError, match=r"."):
        from_json(path.read_bytes())


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x80\x04K\x01.", (10**12).to_bytes(8, "little") + b"{}"])
def test_a_bad_tensor_file_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_tensors(path)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_tensors(path)


def test_nothing_is_unpickled(run: RunFolder, save: Callable[[int], Path]) -> None:
    heard: list[str] = []
    armed = [True]
    sys.addaudithook(lambda event, _: heard.append(event) if armed[0] and event == "pickle.find_class" else None)
    save(1)
    folder = newest(run)
    assert folder is not None
    read_tensors(folder / "model.safetensors")
    read_json(folder / "state.json")
    armed[0] = False
    assert heard == []
