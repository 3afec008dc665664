"""HDF5 shards in and out: by shard number and key, what is missing is unseen, what is unsure is refused."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from instar.cli import main
from instar.core.errors import DataError, InputMissingError, UsageError
from instar.masking.value_arrays import Decoder, ValueArrays, encode, read_header
from instar.tracks import shards
from instar.tracks.transfer import import_values

TEXTS = ["a", "bb", "ccc", "", "abba", "cabca", "  ", "bacbaca", "a"]
KEPT = [0, 1, 2, 4, 5, 7, 8]
"""Numbers of the documents that have text."""
RUN = """
model: {{config: bert, num_layers: 1, hidden_size: 16, num_heads: 2, intermediate_size: 16, max_length: 16}}
tokenizer: {{kind: character}}
task: {{kind: mlm, masking: {{kind: adaptive, dtype: {dtype}}}}}
data: {{train: {{kind: jsonl, path: {folder}/texts.jsonl}}, max_length: 16, cache: {folder}/cache}}
train: {{budget: "1 steps", batch_samples: 4}}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "mine.yaml").write_text(RUN.format(folder=tmp_path, dtype="float16"))
    (tmp_path / "shards").mkdir()
    (tmp_path / "run").mkdir()
    shutil.copy(tmp_path / "mine.yaml", tmp_path / "run" / "run.yaml")
    return tmp_path / "run"


def of(number: int) -> np.ndarray:
    """Values that only this document has."""
    return np.full(len(TEXTS[number]), (number + 1) / 16, dtype=np.float16)


def fill(run: Path, shards: Mapping[int, Mapping[str, Any]]) -> Path:
    folder = run.parent / "shards"
    for shard, samples in shards.items():
        with h5py.File(folder / f"shard_{shard}.hdf5", "w") as file:
            for key, values in samples.items():
                file[key] = values
    return folder


def stored(run: Path) -> np.ndarray:
    """The values of the run's characters, NaN where unseen."""
    schema = read_header(run / "masking")
    return Decoder(schema.dtype, np.nan)(np.asarray(ValueArrays(run / "masking", schema).arrays["value"]))


def by_document(*known: int) -> np.ndarray:
    parts = [of(number) if number in known else np.full(len(TEXTS[number]), np.nan) for number in KEPT]
    return np.concatenate(parts).astype(np.float32)


def test_a_data_set_goes_to_the_document_of_its_number(run: Path) -> None:
    """Shards of 3: 10 sorts before 2 as text; documents without text keep their numbers."""
    given = fill(run, {0: {"2": of(2), "0": of(0)}, 2: {"2": of(8), "1": of(7)}})
    facts = import_values(run, given, shard=3)
    np.testing.assert_array_equal(stored(run), by_document(0, 2, 7, 8))
    assert (facts["samples"], facts["missing_samples"], facts["known"]) == (4, 3, 1 + 3 + 7 + 1)
    assert len(facts["notices"]) == 1
    assert "3 of 7 documents have no data set" in facts["notices"][0]
    assert "there are no shards 1" in facts["notices"][0]


def test_nan_is_unseen_and_a_whole_store_says_nothing(run: Path) -> None:
    values = of(5).copy()
    values[2] = np.nan
    given = fill(run, {0: {str(number): of(number) if number != 5 else values for number in KEPT}})
    facts = import_values(run, given)
    assert facts["notices"] == []
    assert facts["known"] == sum(len(TEXTS[number]) for number in KEPT) - 1
    assert np.flatnonzero(np.isnan(stored(run))).tolist() == [1 + 2 + 3 + 4 + 2]


@pytest.mark.parametrize(("shards", "size", "said"), [
    ({0: {"0": of(0)}, 1: {"0": of(4)}}, None, "shard_1.hdf5: how many samples a shard has is not known"),
    ({0: {"5": of(5)}, 1: {"0": of(4)}}, 4, "shard_0.hdf5: sample 5 is of shard 1 where shards have 4 samples"),
    ({0: {"3": np.zeros(0, "f2")}}, None, "shard_0.hdf5: sample 3 is of document 3, which is empty"),
    ({0: {"9": of(0)}}, None, "shard_0.hdf5: sample 9 is of document 9, and the last of this corpus is 8"),
    ({0: {"07": of(7)}}, None, "shard_0.hdf5: sample 07 has a name that is not the number of a sample"),
    ({0: {"one": of(1)}}, None, "shard_0.hdf5: sample 'one' has a name that is not the number of a sample"),
    ({0: {"4": of(5)}}, None, "sample 4 has 5 values; wanted 4"),
    ({0: {"4": of(4)[:, None]}}, None, "sample 4 has the shape (4, 1); expected one value for each of 4"),
    ({0: {"0": np.float16(0.5)}}, None, "sample 0 has the shape (); expected one value for each of 1"),
    ({0: {"4": np.ones(4, "u1")}}, None, "sample 4 is of type uint8; expected float16"),
    ({0: {"4": np.ones(4, bool)}}, None, "sample 4 is of type bool; expected float16"),
    ({0: {"4": np.array([b"1"] * 4)}}, None, "sample 4 is of type |S1; expected float16"),
    ({0: {"4": np.ones(4, "c8")}}, None, "sample 4 is of type complex64; expected float16"),
    ({0: {"4": [0.5, -0.25, 0.5, 2]}}, None, "sample 4 has values outside 0 to 1: -0.25 at 1, and 1 more"),
    ({0: {"4": [0.5, np.inf, 0.5, 0.5]}}, None, "sample 4 has values outside 0 to 1: inf at 1, and 0 more"),
    ({0: {"4/4": of(4)}}, None, "sample 4 is no data set"),
    ({0: {"4": np.dtype("f2")}}, None, "sample 4 is no data set"),
    ({0: {"0": of(0)}, "00": {"1": of(1)}}, None, "both are shard 0; keep one of them"),
    ({0: {"0": of(0)}, "x": {"1": of(1)}}, None, "shard_x.hdf5: the number of this shard is not known"),
])  # fmt: skip
def test_what_is_unsure_is_refused(
    run: Path, shards: Mapping[int, Mapping[str, Any]], size: int | None, said: str
) -> None:
    with pytest.raises(DataError) as raised:
        import_values(run, fill(run, shards), shard=size)
    assert said in str(raised.value)
    assert not (run / "masking").exists()


def soft(file: h5py.File, folder: Path) -> None:
    file["1"] = h5py.SoftLink("/2")


def hard(file: h5py.File, folder: Path) -> None:
    file.create_group("4")["2"] = file["2"]


def external_link(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.data", "w") as other:
        other["1"] = of(1)
    file["1"] = h5py.ExternalLink(str(folder / "other.data"), "/1")


def external_storage(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(4))
    file.create_dataset("1", shape=(2,), dtype="f2", external=[(str(folder / "secret"), 0, 4)])


def virtual(file: h5py.File, folder: Path) -> None:
    offsets = h5py.VirtualLayout(shape=(2,), dtype="f2")
    offsets[:] = h5py.VirtualSource(str(folder / "other.data"), "1", shape=(2,))
    file.create_virtual_dataset("1", offsets)


def unwritten(file: h5py.File, folder: Path) -> None:
    file.create_dataset("1", shape=(2,), dtype="f2")


def huge_chunks(file: h5py.File, folder: Path) -> None:
    file.create_dataset("1", shape=(2,), dtype="f2", maxshape=(None,), chunks=(1 << 27,), fillvalue=np.nan)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (soft, "sample 1 is a soft link"),
        (hard, "sample 2 has more than one name (a hard link)"),
        (external_link, "sample 1 is an external link"),
        (external_storage, "sample 1 has its values in another file"),
        (virtual, "sample 1 is a virtual data set, whose values lie in another file"),
        (unwritten, "sample 1 was not written (its values would be 0.0)"),
        (huge_chunks, "sample 1 is stored in chunks of 134,217,728 values"),
    ],
)
def test_values_that_lie_elsewhere_are_refused(
    run: Path, make: Callable[[h5py.File, Path], None], said: str, tmp_path: Path
) -> None:
    given = fill(run, {0: {"2": of(2)}})
    with h5py.File(given / "shard_0.hdf5", "a") as file:
        make(file, tmp_path)
    with pytest.raises(DataError) as raised:
        import_values(run, given)
    assert f"shard_0.hdf5: {said}" in str(raised.value)


def test_a_data_set_created_as_unknown_is_unseen(run: Path) -> None:
    """So does the system before instar begin its data sets."""
    given = fill(run, {0: {"2": of(2)}})
    with h5py.File(given / "shard_0.hdf5", "a") as file:
        file.create_dataset("1", shape=(2,), dtype="f2", fillvalue=np.nan)
    assert import_values(run, given)["known"] == 3


def test_folders_without_shards(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="holds no HDF5 shards"):
        import_values(run, tmp_path / "shards")
    (tmp_path / "shards" / "train").mkdir()
    fill(run, {0: {"0": of(0)}})
    (tmp_path / "shards" / "shard_0.hdf5").rename(tmp_path / "shards" / "train" / "shard_0.hdf5")
    with pytest.raises(InputMissingError, match="there are some in train: name that folder"):
        import_values(run, tmp_path / "shards")
    os.mkfifo(tmp_path / "shards" / "shard_0.hdf5")
    with pytest.raises(DataError, match="is a named pipe"):
        import_values(run, tmp_path / "shards")
    (tmp_path / "some.bedgraph").write_text("a\t0\t1\t0.5\n")
    with pytest.raises(UsageError, match="is about a folder of HDF5 shards"):
        import_values(run, tmp_path / "some.bedgraph", shard=3)


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_out_and_in_again_is_equal_to_the_bit(
    run: Path, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command line; shards of 2 of a probe-like folder, whose numbers have gaps where there is no text."""
    for name in ("mine.yaml", "run/run.yaml"):
        (tmp_path / name).write_text(RUN.format(folder=tmp_path, dtype=dtype))
    with pytest.raises(SystemExit) as left:
        main(["train", str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "trained")])
    assert not left.value.code
    rng, place = np.random.default_rng(3), tmp_path / "trained" / "masking"
    shutil.rmtree(place)
    size = sum(len(TEXTS[number]) for number in KEPT)
    values = np.where(rng.random(size) < 0.2, np.nan, np.concatenate([[0, 1], rng.random(size - 2)]))
    import_from(tmp_path, values.astype(np.float32))
    before = np.asarray(ValueArrays(place, read_header(place)).arrays["value"])
    np.testing.assert_array_equal(before, encode(values, dtype))  # float32 to float16 and to bytes, once

    export = ["tracks", "export", str(tmp_path / "trained"), "--output", str(tmp_path / "out"), "--format", "hdf5"]
    assert call(capsys, *export, "--shard", "2")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"shard_{n}.hdf5" for n in (0, 1, 2, 3, 4)]
    assert call(capsys, "tracks", "import", str(run), "--input", str(tmp_path / "out"))[0] == 0
    after = np.asarray(ValueArrays(run / "masking", read_header(run / "masking")).arrays["value"])
    np.testing.assert_array_equal(after, before)
    code, _, err = call(capsys, *export)
    assert code == 73
    assert "holds shards already (shard_0.hdf5); choose another folder" in err
    shutil.rmtree(run / "masking")
    code, _, err = call(capsys, "tracks", "import", str(run), "--input", str(tmp_path / "out"), "--shard", "3")
    assert code == 65
    assert "shard_0.hdf5: was written with 2 samples per shard; expected 3" in err


def import_from(folder: Path, values: np.ndarray) -> None:
    """Give the trained run these values, in place of its own."""
    given = folder / "given"
    given.mkdir()
    first = 0
    with h5py.File(given / "shard_0.hdf5", "w") as file:
        for number in KEPT:
            file[str(number)] = values[first : first + len(TEXTS[number])]
            first += len(TEXTS[number])
    import_values(folder / "trained", given)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_damage_that_sends_the_hdf5_library_round_in_a_circle_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "CPU_SECONDS", 1)
    path = fill(run, {0: {"0": of(0)}}) / "shard_0.hdf5"
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "instar-masking-values"
        file.attrs["what"] = "value"
    content = bytearray(path.read_bytes())
    second = content.index(b"GCOL") + 16 + 16 + 24  # the heap of texts: its head, the first text's head and the text
    assert content[second + 8] == len("value")
    content[second + 9] = 1  # its length is 256 more, beyond the heap's end
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"shard_0\.hdf5: is not a whole HDF5 shard"):
        import_values(run, path.parent)
