"""The token cache: built once, whole or absent, rebuilt when anything changed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instar.core.errors import DataError, DiskError, OutputError
from instar.core.files.temporary import machine
from instar.data import cache as cache_module
from instar.data.cache import TokenCache, build_cache
from instar.data.source import Csv, Fasta, Text
from instar.data.tokenizer import Bpe, Character, Kmer, Tokenizer, build_tokenizer

CHARACTERS = build_tokenizer(Character(), lambda: iter(["abcdefghij xyz"]))


def corpus(folder: Path, documents: int = 30) -> Text:
    (folder / "a.txt").write_text("\n\n".join("abcdefghij"[: 1 + n % 10] + " xyz" for n in range(documents)))
    return Text(path=str(folder / "a.txt"))


def same(first: TokenCache, second: TokenCache) -> bool:
    names = ("ids", "ends", "offsets")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


def test_what_it_holds(tmp_path: Path) -> None:
    source = corpus(tmp_path)
    cache = build_cache(source, CHARACTERS, tmp_path / "cache")
    assert cache.num_documents == 30
    assert (cache.ids.dtype, cache.ends.dtype, cache.offsets.dtype) == (np.uint16, np.uint32, np.int64)
    for number, document in enumerate(source.documents()):
        tokens = slice(cache.offsets[number], cache.offsets[number + 1])
        assert CHARACTERS.decode(cache.ids[tokens]) == document.text
        assert cache.ends[tokens].tolist() == list(range(1, len(document.text) + 1))
    assert cache.report["documents"] == 30
    assert cache.report["tokens"] == cache.report["characters"] == cache.num_tokens
    assert cache.report["duplicate_documents"] == 20
    assert cache.report["longest_document"] == 14
    assert sum(cache.length_histogram) == 30
    with pytest.raises(ValueError, match="read-only"):
        cache.ids[0] = 1


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">x\nACGTACGTAA\n")
    tokenizer = build_tokenizer(Kmer(k=8), lambda: iter(()))
    assert tokenizer.vocab_size == 65541
    cache = build_cache(Fasta(path=str(tmp_path / "a.fa")), tokenizer, tmp_path / "cache")
    assert cache.ids.dtype == np.uint32


def test_genomes_keep_case_and_coordinates(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">x\nACGTacGTNNGGcc\n>y\nAC\n")
    tokenizer = build_tokenizer(Kmer(k=2), lambda: iter(()))
    cache = build_cache(Fasta(path=str(tmp_path / "a.fa")), tokenizer, tmp_path / "cache")
    assert tokenizer.tokens(cache.ids) == ["AC", "GT", "AC", "GT", "GG", "CC", "AC"]
    assert cache.lower is not None
    assert cache.lower.tolist() == [False, False, True, False, False, True, False]
    assert [(cache.name(n), cache.start(n)) for n in range(3)] == [("x", 0), ("x", 10), ("y", 0)]


def test_changes_rebuild_and_equals_do_not(tmp_path: Path) -> None:
    source, folder = corpus(tmp_path), tmp_path / "cache"
    calls: list[int] = []

    def build(source: Text, tokenizer: Tokenizer = CHARACTERS) -> str:
        calls.clear()
        return build_cache(
            source, tokenizer, folder, progress=lambda documents, tokens: calls.append(tokens)
        ).fingerprint

    first = build(source)
    assert calls
    assert build(source) == first
    assert not calls
    (tmp_path / "b.txt").write_bytes((tmp_path / "a.txt").read_bytes())
    assert build(Text(path=str(tmp_path / "b.txt"))) == first  # the content counts, not the name
    assert not calls
    fingerprints = {first, build(Text(path=source.path, separation="line"))}
    fingerprints.add(build(source, build_tokenizer(Character(max_size=5), source.texts)))
    (tmp_path / "a.txt").write_text("abd")
    fingerprints.add(build(source))
    assert len(fingerprints) == 4


@pytest.mark.parametrize("name", ["ids.bin", "offsets.bin", "index.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damage_is_found_and_repaired_with_one_warning(tmp_path: Path, name: str, harm: str) -> None:
    source = corpus(tmp_path)
    whole = build_cache(source, CHARACTERS, tmp_path / "cache")
    wanted = whole.ids.tolist()
    path = whole.folder / name
    data = bytearray(path.read_bytes())
    data[5] ^= 255
    path.unlink() if harm == "remove" else path.write_bytes(data if harm == "flip" else data[:-3])
    with pytest.warns(UserWarning, match="built again") as warned:
        again = build_cache(source, CHARACTERS, tmp_path / "cache")
    assert len(warned) == 1
    assert again.ids.tolist() == wanted
    build_cache(source, CHARACTERS, tmp_path / "cache")


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = corpus(tmp_path), tmp_path / "cache"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "publish_unless_whole", full)
        with pytest.raises(DiskError, match="No space left"):
            build_cache(source, CHARACTERS, folder)
    assert not [entry for entry in folder.iterdir() if entry.is_dir()]
    name = build_cache(source, CHARACTERS, folder).folder.name
    (folder / f".tmp-{name}-{machine()}-{2**23}-7-0123abcd").mkdir()  # of a process that was killed
    build_cache(source, CHARACTERS, folder)
    assert [entry.name for entry in folder.iterdir() if entry.is_dir()] == [name]
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, FileExistsError)):
        build_cache(source, CHARACTERS, tmp_path / "file" / "cache")


def test_empty_documents_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,y\nabc,1\n,2\n  ,3\nx,1\n")
    cache = build_cache(Csv(path=str(tmp_path / "a.csv"), label="y"), CHARACTERS, tmp_path / "cache")
    assert (cache.report["documents"], cache.report["empty_documents"]) == (2, 2)
    assert cache.label_names == ("1",)
    (tmp_path / "b.csv").write_text("text\n\n \n")
    with pytest.raises(DataError, match="no document has any text"):
        build_cache(Csv(path=str(tmp_path / "b.csv")), CHARACTERS, tmp_path / "cache")


def test_unknown_labels_name_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,y\nabc,good\nx,goood\ny,bad\nz,evil\n")
    source = Csv(path=str(tmp_path / "a.csv"), label="y")
    with pytest.raises(DataError) as caught:
        build_cache(source, CHARACTERS, tmp_path / "cache", labels=["good", "bad"])
    told = str(caught.value).split("\n")
    assert "a.csv:3: label 'goood' is not known; did you mean 'good'?" in told[0]
    assert "a.csv:5: label 'evil'" in told[1]


def test_several_processes_give_the_same(tmp_path: Path) -> None:
    source = corpus(tmp_path, 6000)
    tokenizer = build_tokenizer(Bpe(vocab_size=300), source.texts)
    tokenizer.save(tmp_path / "tokenizer")
    one = build_cache(source, tokenizer, tmp_path / "one")
    script = SCRIPT.replace("progress=", "processes=2, progress=")  # in a process of its own: spawning leaves a helper
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "True"
    two = build_cache(source, tokenizer, tmp_path / "cache")
    assert one.folder != two.folder
    assert same(one, two)


SCRIPT = """
import sys
from pathlib import Path
from instar.data.cache import build_cache
from instar.data.source import Text
from instar.data.tokenizer import Tokenizer
calls = []
folder = Path(sys.argv[1])
cache = build_cache(Text(path=str(folder / "a.txt")), Tokenizer.load(folder / "tokenizer"), folder / "cache",
                    progress=lambda documents, tokens: calls.append(tokens))
print(len(calls) > 0, int(cache.ids.sum()))
"""


def test_of_several_askers_one_builds(tmp_path: Path) -> None:
    corpus(tmp_path, 3000)
    CHARACTERS.save(tmp_path / "tokenizer")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=900)[0].split() for process in running]
    assert sorted(built for built, _ in said) == ["False", "False", "True"]
    assert len({total for _, total in said}) == 1


UNLOCKED = (
    """
import fcntl, sys, time
from pathlib import Path
fcntl.flock = lambda *_: None  # a network mount on which locks exclude nobody
from instar.data import cache as module
publish, arrived = module.publish_unless_whole, Path(sys.argv[1]) / "arrived"
def published(*given):  # both have built before one publishes
    (arrived / sys.argv[2]).touch()
    while len(list(arrived.iterdir())) < 2:
        time.sleep(0.01)
    publish(*given)
module.publish_unless_whole = published
"""
    + SCRIPT
)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_two_at_once_without_working_locks_end_with_one_whole_cache(tmp_path: Path, *, is_damaged: bool) -> None:
    source = corpus(tmp_path, 3000)
    CHARACTERS.save(tmp_path / "tokenizer")
    (tmp_path / "arrived").mkdir()
    total = int(build_cache(source, CHARACTERS, tmp_path / "other").ids.sum())
    if is_damaged:
        (build_cache(source, CHARACTERS, tmp_path / "cache").folder / "ids.bin").write_bytes(b"harm")
    command = [sys.executable, "-W", "ignore", "-c", UNLOCKED, str(tmp_path)]
    running = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "ab"]
    said = [process.communicate(timeout=900)[0].split() for process in running]
    assert said == [["True", str(total)]] * 2
    folders = [entry for entry in (tmp_path / "cache").iterdir() if entry.is_dir()]
    assert [entry.name for entry in folders] == [build_cache(source, CHARACTERS, tmp_path / "other").folder.name]
    assert int(TokenCache(folders[0], full_check=True).ids.sum()) == total
