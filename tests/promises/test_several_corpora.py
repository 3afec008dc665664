"""One run on several genomes: one store spans them, and a run that was ended goes on with all their chances."""

from pathlib import Path

import numpy as np
import pytest
from faults import ForkServer, Program, storm
from recipes import Small, small
from runs import break_off, run
from test_adaptive import LONGER, NAME, PROGRAMS, all_left, outcome_with_chances

from instar.core.errors import DataError
from instar.tracks.stored import open_stored

OPTIONS = (*LONGER, "data.crops=random", "data.reverse_complement=0.5")


@pytest.fixture(scope="module")
def shrunk(shared: Path) -> Small:
    """The recipe on two files: yeast's beginning, and a genome of two records with a gap."""
    lines = Path(small(NAME, shared).config.data.train.path).read_text().splitlines()
    (shared / "one.fa").write_text("\n".join(lines[:7]) + "\n")
    rng = np.random.default_rng(5)
    bases = "".join(rng.choice(list("ACGT"), 240))
    (shared / "two.fa").write_text(f">chrX\n{bases[:80]}NNNN{bases[80:150]}\n>chrY\n{bases[150:]}\n")
    return small(NAME, shared).but(f'data.train.path=["{shared / "one.fa"}", "{shared / "two.fa"}"]')


@pytest.fixture(scope="module")
def whole(shrunk: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "run"
    run(shrunk, folder, *OPTIONS)
    return folder


@pytest.mark.parametrize(("event", "step"), [("step_ended", 5), ("saved", 9), ("step_ended", 13)])
def test_ended_and_resumed_on_several_corpora(
    event: str, step: int, whole: Path, shrunk: Small, tmp_path: Path
) -> None:
    break_off(shrunk, tmp_path / "run", event, step, *OPTIONS)
    run(shrunk, tmp_path / "run", *OPTIONS)
    assert all_left(tmp_path / "run") == all_left(whole)


@pytest.mark.slow
def test_killed_and_resumed_on_several_corpora(shrunk: Small, fast_path: Path, fork_server: ForkServer) -> None:
    brief = shrunk.but("train.budget=6 steps", "train.save_every=2 steps", "data.eval=null")
    program = Program(PROGRAMS, "train", {"file_name": brief.name, "overrides": list(brief.overrides)})
    met = storm(fork_server, program, fast_path, kills=2, seed=4, look=outcome_with_chances)
    assert met.problems == []


def test_all_of_them_are_learnt_in_one_store(whole: Path) -> None:
    stored = open_stored(whole)
    track = stored.track("one_minus_p")
    assert list(track) == ["chrI", "chrX", "chrY"]
    assert stored.offsets.num_characters == len(track["chrI"]) + 240
    for values in track.values():
        assert np.isfinite(values).mean() > 0.2
    assert np.isnan(track["chrX"][80:84]).all(), "nothing is known of a gap"


def test_another_second_corpus_is_another_corpus(whole: Path, shrunk: Small, shared: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(shrunk, tmp_path / "run", "train.budget=1 steps", f"task.masking.store={store}")
    text = (shared / "two.fa").read_text()
    (tmp_path / "other.fa").write_text(text.replace("A", "C", 1))
    for paths in ([shared / "two.fa", shared / "one.fa"], [shared / "one.fa", tmp_path / "other.fa"]):
        named = ", ".join(f'"{path}"' for path in paths)
        with pytest.raises(DataError, match=r"another corpus \(fingerprint [0-9a-f]{16}.*this corpus has [0-9a-f]{16}"):
            run(shrunk.but(f"data.train.path=[{named}]"), tmp_path / paths[1].stem, f"task.masking.store={store}")


def test_two_records_of_one_name_are_told_within_a_file(shrunk: Small, shared: Path, tmp_path: Path) -> None:
    """In two files they are told apart by file; `tests/masking/test_equal_names.py` holds that."""
    again = (shared / "two.fa").read_text().replace("chrX", "chrI")
    (tmp_path / "same.fa").write_text((shared / "one.fa").read_text() + again)
    with pytest.raises(DataError, match="the name 'chrI' came before"):
        run(shrunk.but(f"data.train.path={tmp_path / 'same.fa'}"), tmp_path / "run")
