"""Search over hyperparameters."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers.trainer_utils import BestRun, HPSearchBackend, default_compute_objective

from instar.api.base import TrainerParts
from instar.api.search.base import SearchBackend, SearchMetrics, set_arguments
from instar.checkpoint.protocol import publish


class Tuning(TrainerParts):
    """Search over hyperparameters."""

    hp_search_backend: HPSearchBackend | None = None
    hp_name: Callable[..., str] | None = None
    objective: Any = None
    _trial: Any = None
    _search: SearchBackend | None = None
    _args_of_search: dict[str, Any] | None = None

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], Mapping[str, Any]] | Mapping[str, Any] | None = None,
        compute_objective: Callable[[dict[str, float]], Any] | None = None,
        n_trials: int | None = 20,
        direction: str | list[str] = "minimize",
        backend: str | HPSearchBackend | None = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> BestRun | list[BestRun]:
        """Train once for each trial, in `run-<number>` of the output folder, and give the best (several: a list).

        `hp_space` is a function of the trial, or a mapping (see `search.spaces.suggest`); the objective reads
        metrics with or without their `eval_` (default: the sum of the users' metrics, else the loss), and each
        evaluation on the way may end a bad trial early. The arguments are as before afterwards; the model is that
        of the last trial. For `kwargs` see `run` of the backend: with Optuna, `storage="journal"` keeps the study
        in a file, so that it can be interrupted, taken up again, and shared by several processes.
        """
        from instar.api.search import find_backend

        name, search = find_backend(backend)
        if self.model_init is None:
            raise RuntimeError(
                "To use hyperparameter search, you need to pass your model through a model_init function: each trial "
                "begins with a new one"
            )
        self.hp_search_backend, self._search = name, search
        self.hp_name = hp_name
        self.hp_space = _space(search, hp_space)
        self.compute_objective = default_compute_objective if compute_objective is None else compute_objective
        self._args_of_search = {field: copy.copy(value) for field, value in vars(self.args).items()}
        try:
            best: BestRun | list[BestRun] = search.run(self, n_trials, direction, **kwargs)
        finally:
            self._restore_arguments()
            self.hp_search_backend = self._search = self._args_of_search = self._trial = None
        return best

    def _restore_arguments(self) -> None:
        values = self._args_of_search
        if values is not None:
            for field in set(vars(self.args)) - set(values):
                delattr(self.args, field)
            self.args.__dict__.update({field: copy.copy(value) for field, value in values.items()})

    def _hp_search_setup(self, trial: Any) -> None:
        """Put a trial's hyperparameters into the arguments, which are those from before the search otherwise."""
        self._trial = trial
        if self._search is None or trial is None:
            return
        self._restore_arguments()
        set_arguments(self.args, self._search.parameters(self, trial))
        self._train_batch_size = self.args.train_batch_size

    def _report_to_hp_search(self, trial: Any, step: int, metrics: dict[str, float]) -> None:
        """Tell the search of an evaluation; it may end the trial by raising."""
        if self._search is None or trial is None:
            return
        self.objective = self.compute_objective(SearchMetrics(metrics))
        self._search.report(self, trial, step, metrics)

    def _tune_save_checkpoint(self, checkpoint_dir: str) -> None:
        """Everything that training can go on from, into a folder of the search's own."""
        publish(Path(checkpoint_dir), self._capture(copies=False))


def _space(search: SearchBackend, given: Any) -> Callable[[Any], Any]:
    if given is None:
        return search.default_space
    if isinstance(given, Mapping):
        return lambda trial: search.space_of(given, trial)
    space: Callable[[Any], Any] = given
    return space
