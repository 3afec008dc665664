"""Searches over hyper-parameters, one file for each package that chooses the next ones."""

from transformers.trainer_utils import HPSearchBackend

from instar.api.arguments.faults import wanted
from instar.api.search.base import SearchBackend
from instar.api.search.optuna import OptunaSearch
from instar.api.search.ray import RaySearch
from instar.api.search.wandb import WandbSearch

BACKENDS: dict[HPSearchBackend, type[SearchBackend]] = {
    HPSearchBackend.OPTUNA: OptunaSearch,
    HPSearchBackend.RAY: RaySearch,
    HPSearchBackend.WANDB: WandbSearch,
}


def find_backend(name: str | None) -> tuple[HPSearchBackend, SearchBackend]:
    """The backend of that name, or the first that is installed; RuntimeError with the line that installs it."""
    if name is not None:
        known = [backend.value for backend in HPSearchBackend]
        if name not in known:
            raise ValueError(f"backend: {wanted('one of ' + ', '.join(known), name, known)}")
        asked = HPSearchBackend(name)
        if not BACKENDS[asked].is_available():
            raise RuntimeError(f"the {asked.value} backend is not installed; run `{BACKENDS[asked].install}`")
        return asked, BACKENDS[asked]()
    for known, kind in BACKENDS.items():
        if kind.is_available():
            return known, kind()
    lines = "".join(f"\n  {kind.install}" for kind in BACKENDS.values())
    raise RuntimeError(f"no package for a search over hyper-parameters is installed; install one of them:{lines}")


__all__ = ["BACKENDS", "SearchBackend", "find_backend"]
