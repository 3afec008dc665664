"""What the lives of the fault harness run to import masking values."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from instar.tracks.transfer import import_values

RUN = """
model: {{config: bert, num_layers: 1, hidden_size: 16, num_heads: 2, intermediate_size: 16, max_length: 16}}
tokenizer: {{kind: character}}
task: {{kind: mlm, masking: {{kind: adaptive}}}}
data: {{train: {{kind: fasta, path: {folder}/genome.fa}}, max_length: 16, too_long: window, cache: {folder}/cache}}
train: {{budget: "1 steps", batch_samples: 4}}
"""


def make(folder: Path) -> None:
    """A genome, a track of half of it, and a run file."""
    (folder / "genome.fa").write_text(">a\n" + "ACGT" * 10 + "\n")
    (folder / "given.bedgraph").write_text("a\t0\t20\t0.5\n")
    (folder / "run.yaml").write_text(RUN.format(folder=folder))


def life(folder: Path, given: str) -> None:
    """Import the values, if no life before has."""
    if not (folder / "masking").exists():
        import_values(folder, Path(given))


if Path(getattr(sys.modules["__main__"], "__file__", None) or "").name == "lives.py":
    with TemporaryDirectory() as place:  # so that no life has to import what an import of values needs
        make(Path(place))
        life(Path(place), f"{place}/given.bedgraph")
