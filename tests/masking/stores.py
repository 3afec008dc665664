"""Small stores for tests."""

from pathlib import Path

import numpy as np

from instar.masking.offsets import CharacterOffsets, Spans
from instar.masking.store import Measured, ProbabilityStore, StoreLearner, open_store, reset_store
from instar.masking.update import Rule
from instar.masking.value_arrays import StoreSchema

CHARACTERS = 400
LAYOUT = CharacterOffsets.of(np.array([150, 250]), "a corpus")


def schema(**options: object) -> StoreSchema:
    return StoreSchema(
        **{
            "fingerprint": LAYOUT.fingerprint,
            "num_characters": LAYOUT.num_characters,
            "statistic": "one_minus_p",
            **options,
        }
    )


def opened(
    folder: Path, *, rate: float = 1.0, prior: float = 1.0, decay: float = 0.0, **options: object
) -> ProbabilityStore:
    kept = schema(**options)
    return open_store(folder, kept, rule=Rule(rate=rate, dtype=kept.dtype), prior=prior, decay=decay)


def spans(*pairs: tuple[int, int]) -> Spans:
    """Of (start, length) pairs."""
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Spans(array[:, 0], array[:, 1])


def drawn(step: int, count: int = 20, ranks: int = 1) -> Measured:
    """Made-up measurements of a step: the same for the same step."""
    rng = np.random.default_rng(step)
    start = rng.integers(0, CHARACTERS - 9, count)
    return Measured(
        step,
        Spans(start, rng.integers(1, 9, count)),
        rng.random(count, dtype=np.float32),
        np.sort(rng.integers(0, ranks, count)),
    )


def content(store: ProbabilityStore) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in store.mapped.arrays.items()}


def written(
    folder: Path, steps: range, *, ranks: int = 1, **options: object
) -> tuple[ProbabilityStore, dict[str, int]]:
    """A store after these steps, each rank with its journal; and the journals' positions."""
    store = opened(folder, **options)
    learners = [StoreLearner(store, rank, 0) for rank in range(ranks)]
    for step in steps:
        changes = [learner.flush(drawn(step, ranks=ranks)) for learner in learners]
        store.apply(changes[0])
    for learner in learners:
        learner.close()
    return store, {str(learner.rank): learner.journal.position for learner in learners}


__all__ = ["content", "drawn", "opened", "reset_store", "schema", "spans", "written"]
