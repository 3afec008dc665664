"""A search with Optuna: in memory, or in a journal that several processes share and that can be taken up again."""

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from instar.api.search.base import SearchBackend, best_of, run_trial
from instar.api.search.journal import SUFFIX, Journal
from instar.api.search.spaces import suggest, suggest_default
from instar.core.files.json_files import from_json, to_json
from instar.core.seeds import derive
from instar.trainer.parallel import group

if TYPE_CHECKING:
    import optuna

_log = logging.getLogger(__name__)
_STUDY = "search"
_ERROR = "error"
"""The attribute that says why a trial failed."""


class OptunaSearch(SearchBackend):
    """Trials one after another in this process; other processes may share its journal."""

    package: ClassVar[str] = "optuna"
    install: ClassVar[str] = "pip install optuna"
    _told: tuple[int, int] | None = None

    def default_space(self, trial: Any) -> dict[str, Any]:
        return suggest_default(trial)

    def space_of(self, values: Mapping[str, Any], trial: Any) -> dict[str, Any]:
        return suggest(trial, values)

    def parameters(self, trainer: Any, trial: Any) -> dict[str, Any]:
        return dict(trainer.hp_space(trial))

    def run(self, trainer: Any, n_trials: int | None, direction: str | list[str], **options: Any) -> Any:
        """`n_trials` trials, of all processes together where a journal is shared; `timeout` in seconds.

        `storage="journal"` keeps the study in `<output_dir>/search.journal`, a path that ends in `.journal` there;
        other storages are Optuna's. `catch` names errors that fail a trial and not the search, `callbacks` are
        called with (study, trial) after each, and the rest goes to `optuna.create_study`.
        """
        if trainer.args.world_size > 1 and trainer.args.process_index > 0:
            return _follow(trainer)
        if options.pop("n_jobs", 1) != 1:
            raise ValueError(
                "n_jobs must be 1: trials of one Trainer share its model. Start several processes with "
                'storage="journal" instead'
            )
        until = time.monotonic() + (options.pop("timeout", None) or math.inf)
        each = {name: options.pop(name) for name in ("catch", "callbacks", "gc_after_trial") if name in options}
        search = _Search(trainer, *_open_study(trainer, direction, options), chooses="sampler" not in options)
        try:
            begun = 0
            while time.monotonic() < until and search.may_begin(begun, n_trials):
                search.one(**each)
                begun += 1
                if getattr(search.study, "_stop_flag", False):  # a callback or a sampler had enough
                    break
        finally:
            _tell_ranks(trainer, None)
        return _best(search.study)

    def report(self, trainer: Any, trial: Any, step: int, metrics: Mapping[str, Any]) -> None:
        import optuna

        prune = False
        study = getattr(trial, "study", None)
        if study is not None and len(study.directions) == 1 and self._told != (trial.number, step):
            self._told = (trial.number, step)
            trial.report(float(trainer.objective), step)
            prune = bool(trial.should_prune())
        if trainer.runtime.any(prune):
            trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
            raise optuna.TrialPruned(f"trial {trial.number} is pruned at step {step}")


def _open_study(trainer: Any, direction: str | list[str], options: dict[str, Any]) -> tuple[Any, Journal | None]:
    import optuna

    storage = options.pop("storage", None)
    journal = None
    if storage == "journal":
        storage = Path(str(trainer.args.output_dir)) / f"{_STUDY}{SUFFIX}"
    if isinstance(storage, Path) or (isinstance(storage, str) and storage.endswith(SUFFIX)):
        journal = Journal(Path(storage))
        storage = journal.storage()
        options = {"study_name": _STUDY, "load_if_exists": True, **options}
    directions = [direction] if isinstance(direction, str) else list(direction)
    study = optuna.create_study(storage=storage, directions=directions, **options)
    found = [known.name.lower() for known in study.directions]
    if found != [str(wanted).lower() for wanted in directions]:
        raise ValueError(
            f"the study {study.study_name!r} was begun with direction {found}, and {directions} is asked for"
        )
    return study, journal


class _Search:
    """Trials of one study, one after another."""

    def __init__(self, trainer: Any, study: "optuna.Study", journal: Journal | None, *, chooses: bool) -> None:
        self.study = study
        self._trainer = trainer
        self._journal = journal
        self._chooses = chooses

    def may_begin(self, begun: int, n_trials: int | None) -> bool:
        """Whether one more is wanted. If so, and processes share the study, none of the others begins one before it."""
        if self._journal is None:
            return n_trials is None or begun < n_trials
        self._journal.lock.acquire()
        self._take_up_the_dead(self._journal)
        counted = sum(_counts(trial) for trial in self.study.get_trials(deepcopy=False))
        if n_trials is None or counted < n_trials:
            return True
        self._journal.lock.release()
        return False

    def _take_up_the_dead(self, journal: Journal) -> None:
        """Trials whose process is gone count as failed, and their hyper-parameters are tried again."""
        from optuna.trial import TrialState

        running = [trial.number for trial in self.study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING]
        dead = {number for number in running if not journal.is_alive(number)}
        for trial in self.study.get_trials(deepcopy=True):  # anew: a trial is told of before it stops to be alive
            if trial.number in dead and trial.state == TrialState.RUNNING:
                self.study.tell(trial.number, state=TrialState.FAIL)
                if trial.params:
                    self.study.enqueue_trial(trial.params)
                _log.warning("trial %d ended with its process; its hyper-parameters are tried again", trial.number)

    def one(self, **options: Any) -> None:
        """Choose hyper-parameters, train, and tell the study."""
        if self._chooses:
            self.study.sampler = _sampler(self._trainer.args.seed, len(self.study.get_trials(deepcopy=False)))
        journal = self._journal
        self._number: int | None = None
        try:
            self.study.optimize(self._objective, n_trials=1, **options)
        finally:
            if journal is not None and journal.lock.is_locked:
                journal.lock.release()
            if journal is not None and self._number is not None:
                journal.end(self._number)

    def _objective(self, trial: "optuna.Trial") -> Any:
        self._number = trial.number
        if self._journal is not None:
            self._journal.begin(trial.number)
            self._journal.lock.release()
        trainer = self._trainer
        try:
            if trainer.args.world_size > 1:
                trainer.hp_space(trial)  # the other ranks are told the values
                _tell_ranks(trainer, trial)
            run_trial(trainer, trial)
        except Exception as error:
            if not _is_pruned(error):
                trial.set_user_attr(_ERROR, f"{type(error).__name__}: {error}")
            raise
        values = trainer.objective
        if any(math.isnan(value) for value in (values if isinstance(values, list | tuple) else [values])):
            trial.set_user_attr(_ERROR, "the objective is not a number")
        return values


def _counts(trial: Any) -> bool:
    """Whether a trial is one of those that were asked for: under way, finished, or failed by itself."""
    from optuna.trial import TrialState

    return trial.state != TrialState.WAITING and (trial.state != TrialState.FAIL or _ERROR in trial.user_attrs)


def _is_pruned(error: Exception) -> bool:
    import optuna

    return isinstance(error, optuna.TrialPruned)


def _sampler(seed: int, number: int) -> Any:
    """Draws that are a function of the seed, the trial's number and the trials before it: also after a restart."""
    import optuna

    return optuna.samplers.TPESampler(seed=derive(seed, "search", number) % 2**32)


def _tell_ranks(trainer: Any, trial: Any) -> None:
    if trainer.args.world_size > 1:
        group.from_main(to_json(None if trial is None else {"number": trial.number, "params": trial.params}))


def _follow(trainer: Any) -> None:
    """The other ranks train what the first one chooses."""
    import optuna

    while True:
        chosen = from_json(group.from_main(b""))
        if chosen is None:
            return
        trial = optuna.trial.FixedTrial(chosen["params"], chosen["number"])
        try:
            run_trial(trainer, trial)
        except optuna.TrialPruned:
            continue


def _best(study: "optuna.Study") -> Any:
    if len(study.directions) > 1:
        return [best_of(trial.number, trial.values, trial.params, study) for trial in study.best_trials]
    try:
        trial = study.best_trial
    except ValueError as error:
        states = (
            ", ".join(f"trial {trial.number}: {trial.state.name.lower()}" for trial in study.trials) or "none was run"
        )
        raise RuntimeError(f"no trial of the search has an objective ({states})") from error
    return best_of(trial.number, trial.value, trial.params, study)
