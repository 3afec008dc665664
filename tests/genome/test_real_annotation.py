"""Sums of the annotation that comes with the package, beside a count that knows nothing of instar's readers."""

import gzip
from collections import defaultdict
from importlib.resources import files

import numpy as np

from instar.genome.annotation import NO_CLASS, read_features, summarise


def test_the_classes_of_a_yeast_chromosome() -> None:
    """A mask of bases for each type of row; rows of one ID are a feature; from 1 with the end, as GFF counts."""
    embedded = files("instar.data.embedded")
    genome = gzip.decompress(embedded.joinpath("yeast_chrI.fa.gz").read_bytes()).decode().split("\n", 1)
    name, size = genome[0][1:].split()[0], len("".join(genome[1].split()))
    lines = gzip.decompress(embedded.joinpath("yeast_chrI.gff3.gz").read_bytes()).decode().splitlines()
    rng = np.random.default_rng(7)
    values = np.where(rng.random(size) < 0.4, np.nan, rng.random(size)).astype(np.float32)

    masks: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(size, dtype=bool))
    identities: dict[str, set[str]] = defaultdict(set)
    for number, line in enumerate(lines):
        cells = line.split("\t")
        if line.startswith("#") or len(cells) != 9 or cells[0] != name:
            continue
        masks[cells[2]][int(cells[3]) - 1 : int(cells[4])] = True
        named = [one[3:] for one in cells[8].split(";") if one.startswith("ID=")]
        identities[cells[2]].add(named[0] if named else f"row {number}")
    masks[NO_CLASS] = ~np.any(list(masks.values()), axis=0)

    found = read_features(enumerate(lines, 1), "yeast_chrI.gff3.gz", {name: size})
    rows = {row.kind: row for row in summarise({name: values}, found.features)}
    assert found.skipped == {}
    assert set(rows) == set(masks)
    assert rows["CDS"].num_bases > 100_000
    for kind, mask in masks.items():
        known = values[mask & ~np.isnan(values)].astype(np.float64)
        assert rows[kind].num_features == len(identities[kind]), kind
        assert (rows[kind].num_bases, rows[kind].num_known) == (mask.sum(), len(known)), kind
        np.testing.assert_allclose(rows[kind].mean, known.mean() if len(known) else np.nan, rtol=1e-6)
