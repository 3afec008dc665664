"""What the demo trains, and for how long."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from instar.demo.child import Stage
from instar.demo.folder import DemoFolder


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Amounts of training, chosen so that two idle cores need less than four minutes."""

    letters: int = 1600
    """Steps of the masked language model over characters."""
    evaluations: int = 10
    """Of that run; each publishes a checkpoint too."""
    dna: int = 100
    """Steps of the masked language model over bases."""
    splice: int = 6
    """Epochs of the classifier."""
    speech: int = 120
    """Steps of the causal language model."""
    speech_tokens: int = 3072
    """Tokens of one of these steps."""
    continued: int = 64
    """Tokens that the causal language model adds to a prompt."""
    reports: int = 4
    """Runs that get a report of their own."""


FULL = Sizes()
SMALL = Sizes(letters=240, evaluations=4, dna=20, splice=2, speech=40, speech_tokens=1024, continued=16, reports=1)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs of the demo."""

    sizes: Sizes
    letters: Stage
    twin: Stage
    dna: Stage
    splice: Stage
    fresh: Stage
    """The classifier of `splice`, begun without the genome."""
    speech: Stage

    @property
    def kill_step(self) -> int:
        """Half-way, and past the newest checkpoint: some steps are lost and have to be made again."""
        return self.sizes.letters // 2 + self.sizes.letters // 20

    @property
    def name(self) -> str:
        """Equal for demos that train the same: one may resume where another was interrupted."""
        return name_of(self.letters, self.twin, self.dna, self.splice, self.fresh, self.speech)


def name_of(*stages: Stage) -> str:
    """A digest of all that decides what the stages train."""
    parts = [part for stage in stages for part in (*stage.arguments, stage.recipe.read_text(encoding="utf-8"))]
    return hashlib.sha256(json.dumps([version("instar"), *parts]).encode()).hexdigest()


def make_plan(folder: DemoFolder, sizes: Sizes) -> Plan:
    """The runs of a demo of these sizes in this folder."""
    letters = (f"train.budget={sizes.letters} steps", *every(sizes.letters, sizes.evaluations))
    splice = (f"train.budget={sizes.splice} epochs", "train.log_every=20")
    speech = (
        f"train.budget={sizes.speech} steps",
        f"train.batch_tokens={sizes.speech_tokens}",
        *every(sizes.speech, 3),
    )
    from_dna = json.dumps({"from": str(folder / "dna" / f"checkpoint-{sizes.dna}"), "dropout": 0.1})
    return Plan(
        sizes=sizes,
        letters=stage_of(folder, "letters", "text-characters", letters, sizes.letters),
        twin=stage_of(folder, "letters-twin", "text-characters", letters, sizes.letters),
        dna=stage_of(
            folder, "dna", "dna-mlm", (f"train.budget={sizes.dna} steps", *_DNA, *every(sizes.dna, 4)), sizes.dna
        ),
        splice=stage_of(folder, "splice", "splice-classify", (f"model={from_dna}", "tokenizer=null", *splice)),
        fresh=stage_of(folder, "splice-fresh", "splice-classify", splice),
        speech=stage_of(folder, "speech", "text-gpt", speech, sizes.speech),
    )


_DNA = (
    "model={config: bert, num_layers: 2, hidden_size: 64, num_heads: 4, intermediate_size: 128, max_length: 128, "
    "dropout: 0.0, initializer_range: 0.08}",
    "train.batch_tokens=2048",
    "train.optimizer={kind: adamw, lr: 3e-3}",
    "data.max_length=62",
)
"""A network and windows that the classifier can begin from: it has to know the position of a base."""


def every(steps: int, evaluations: int) -> tuple[str, ...]:
    """So many evaluations and checkpoints, and forty lines of figures."""
    part = f"{max(1, steps // evaluations)} steps"
    return (f"train.eval_every={part}", f"train.save_every={part}", f"train.log_every={max(1, steps // 40)}")


def stage_of(folder: DemoFolder, name: str, recipe: str, overrides: tuple[str, ...], steps: int | None = None) -> Stage:
    """A run of a recipe of the package, of one thread, in a demo's folder."""
    cache = json.dumps(str(folder / "cache"))
    return Stage(
        name=name,
        recipe=Path(str(files("instar") / "recipes" / f"{recipe}.yaml")),
        overrides=(*overrides, f"data.cache={cache}", "train.threads=1", "train.device=cpu"),
        folder=folder / name,
        log=folder / "logs" / f"{name}.log",
        steps=steps,
    )
