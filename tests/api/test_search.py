"""Searches over hyper-parameters: what is tried, what is told, what is left behind, and what survives a kill."""

import os
import signal
import sys
import types
import weakref
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import optuna
import pytest
from transformers.trainer_utils import BestRun, HPSearchBackend

from instar.api.search import BACKENDS, find_backend
from instar.api.search.base import SearchMetrics, set_arguments
from instar.api.search.journal import Journal
from instar.api.search.spaces import suggest
from tests.api.evaluation_parts import Line
from tests.api.search_parts import learning_rates, make
from tests.processes import start

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def test_the_best_trial_is_found_by_a_metric_without_its_prefix(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    best = trainer.hyperparameter_search(
        direction="maximize", backend="optuna", hp_space=learning_rates, n_trials=6,
        compute_objective=lambda metrics: metrics["validation/accuracy"],
    )  # fmt: skip
    assert isinstance(best, BestRun)
    study = best.run_summary
    assert len(study.trials) == 6
    assert best.objective == max(trial.value for trial in study.trials)
    assert best.hyperparameters == study.trials[int(best.run_id)].params
    assert trainer.args.learning_rate == 0.01, "the arguments are as before"
    assert trainer.hp_search_backend is None


def test_equal_seeds_search_alike_and_trials_differ(tmp_path: Path) -> None:
    def rates(seed: int) -> list[float]:
        best = make(tmp_path, seed=seed).hyperparameter_search(learning_rates, n_trials=4)
        return [trial.params["learning_rate"] for trial in best.run_summary.trials]

    first = rates(1)
    assert first == rates(1) != rates(2)
    assert len(set(first)) == 4


def test_without_a_space_the_usual_four_are_searched_for_the_loss(tmp_path: Path) -> None:
    best = make(tmp_path, compute_metrics=None).hyperparameter_search(n_trials=2)
    assert set(best.hyperparameters) == {"learning_rate", "num_train_epochs", "seed", "per_device_train_batch_size"}


def test_each_trial_begins_from_the_arguments_before_the_search(tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []

    def space(trial: Any) -> dict[str, Any]:
        return {"weight_decay": 0.5} if trial.number == 0 else {"learning_rate": 0.25}

    def init(trial: Any) -> Line:
        if trial is not None:
            seen.append((trainer.args.weight_decay, trainer.args.learning_rate))
        return Line()

    trainer = make(tmp_path, model_init=lambda trial: Line())
    trainer.model_init = init
    trainer.hyperparameter_search(space, n_trials=2)
    assert seen == [(0.5, 0.01), (0.0, 0.25)]


def test_a_space_may_be_a_mapping(tmp_path: Path) -> None:
    space = {"learning_rate": (1e-3, 1e-1, "log"), "seed": (1, 3), "optim": ["sgd"], "weight_decay": 0.125}
    best = make(tmp_path).hyperparameter_search(space, n_trials=2)
    assert set(best.hyperparameters) == {"learning_rate", "seed", "optim"}
    trial = optuna.trial.FixedTrial({"a": 2, "b": 0.5})
    assert suggest(trial, {"a": (1, 3), "b": optuna.distributions.FloatDistribution(0, 1)}) == {"a": 2, "b": 0.5}
    with pytest.raises(ValueError, match=r"learning_rate.*low <= high.*seed.*at least one"):
        suggest(trial, {"learning_rate": (2, 1), "seed": []})


def test_models_are_made_with_their_trial_and_let_go_of(tmp_path: Path) -> None:
    models: list[Any] = []
    widths: list[int | None] = []

    def init(trial: Any) -> Line:
        widths.append(None if trial is None else trial.suggest_int("width", 1, 4))
        assert sum(model() is not None for model in models) <= (trial is None or trial.number == 0)
        model = Line(a=0, b=0)
        models.append(weakref.ref(model))
        return model

    best = make(tmp_path, model_init=init).hyperparameter_search(learning_rates, n_trials=3)
    assert len([width for width in widths if width is not None]) == 3
    assert set(best.hyperparameters) == {"learning_rate", "width"}


def test_several_objectives_give_several_best_runs(tmp_path: Path) -> None:
    best = make(tmp_path).hyperparameter_search(
        learning_rates,
        lambda metrics: (metrics["eval_loss"], metrics["validation/accuracy"]),
        4,
        ["minimize", "maximize"],
    )
    assert isinstance(best, list)
    assert all(len(run.objective) == 2 for run in best)


def test_evaluations_on_the_way_end_bad_trials(tmp_path: Path) -> None:
    class Impatient(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            return bool(trial.number == 1 and trial.last_step >= 2)

    best = make(tmp_path, num_train_epochs=4).hyperparameter_search(learning_rates, n_trials=3, pruner=Impatient())
    first, pruned, last = best.run_summary.trials
    assert pruned.state == optuna.trial.TrialState.PRUNED
    assert len(pruned.intermediate_values) == 1
    assert len(first.intermediate_values) == len(last.intermediate_values) == 4


def test_an_objective_that_is_no_number_fails_its_trial_alone(tmp_path: Path) -> None:
    objectives = iter([float("nan"), 1.0, float("nan"), float("nan")])
    trainer = make(tmp_path, eval_strategy="no")
    best = trainer.hyperparameter_search(learning_rates, lambda metrics: next(objectives), n_trials=2)
    assert (best.run_id, best.objective) == ("1", 1.0)
    with pytest.raises(RuntimeError, match="trial 0: fail, trial 1: fail"):
        trainer.hyperparameter_search(learning_rates, lambda metrics: next(objectives), n_trials=2)


def test_errors_of_a_trial_end_the_search_unless_they_are_to_be_caught(tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        if trial.number == 0:
            raise ZeroDivisionError("no")
        return learning_rates(trial)

    trainer = make(tmp_path)
    with pytest.raises(ZeroDivisionError):
        trainer.hyperparameter_search(space, n_trials=2)
    assert trainer.hp_search_backend is None
    assert trainer.hyperparameter_search(space, n_trials=2, catch=(ZeroDivisionError,)).run_id == "1"


def test_a_sampler_that_is_at_its_end_ends_the_search(tmp_path: Path) -> None:
    sampler = optuna.samplers.GridSampler({"learning_rate": [0.1, 0.2]})
    best = make(tmp_path).hyperparameter_search(learning_rates, n_trials=10, sampler=sampler)
    assert len(best.run_summary.trials) == 2


def test_a_study_in_a_journal_is_taken_up_again(tmp_path: Path) -> None:
    first = make(tmp_path).hyperparameter_search(learning_rates, n_trials=2, storage="journal")
    before = [trial.params["learning_rate"] for trial in first.run_summary.trials]
    assert (tmp_path / "search.journal").is_file()
    with (tmp_path / "search.journal").open("ab") as file:
        file.write(b'{"op_code": 5, "tor')  # killed amid a line
    again = make(tmp_path).hyperparameter_search(learning_rates, n_trials=4, storage="journal")
    rates = [trial.params["learning_rate"] for trial in again.run_summary.trials]
    assert rates[:2] == before
    straight = make(tmp_path / "other").hyperparameter_search(learning_rates, n_trials=4)
    assert rates == [trial.params["learning_rate"] for trial in straight.run_summary.trials]
    with pytest.raises(ValueError, match="begun with direction"):
        make(tmp_path).hyperparameter_search(learning_rates, n_trials=5, storage="journal", direction="maximize")


def search_process(folder: Path, n_trials: int, seconds: float) -> Any:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "tests.api.search_parts", str(folder), str(n_trials), str(seconds)]
    return start(command, cwd=ROOT, env=environment, text=True)


def trials_of(folder: Path) -> list[Any]:
    study = optuna.load_study(study_name="search", storage=Journal(folder / "search.journal").storage())
    return study.trials


@pytest.mark.slow
def test_two_processes_share_a_search_and_a_killed_one_is_made_up_for(tmp_path: Path) -> None:
    states = optuna.trial.TrialState
    victim = search_process(tmp_path, 6, 1000)
    assert victim.stdout.readline() == "trial 0\n", victim.communicate()
    other = search_process(tmp_path, 6, 0.2)
    assert other.stdout.readline() == "trial 1\n", "what another process tries is not tried again"
    assert trials_of(tmp_path)[0].state == states.RUNNING, "who lives is left alone"
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    begun: list[int] = []

    def space(trial: Any) -> dict[str, Any]:
        begun.append(trial.number)
        return learning_rates(trial)

    make(tmp_path).hyperparameter_search(space, n_trials=6, storage="journal")
    text, errors = other.communicate(timeout=900)
    assert other.returncode == 0, errors
    begun += [int(line.split()[1]) for line in text.splitlines() if line.startswith("trial ")]
    assert sorted([0, 1, *begun]) == list(range(7)), "each number once"
    trials = trials_of(tmp_path)
    assert [trial.state for trial in trials].count(states.FAIL) == 1
    assert trials[0].state == states.FAIL
    assert all(trial.state in (states.COMPLETE, states.PRUNED) for trial in trials[1:]), "the sixth may be pruned"
    assert trials[0].params in [trial.params for trial in trials[1:]], "its hyper-parameters were tried again"


def test_metrics_are_read_with_the_prefix_or_without() -> None:
    metrics = SearchMetrics({"eval_validation/accuracy": 0.5, "eval_loss": 1.0, "epoch": 2})
    assert metrics["validation/accuracy"] == metrics["eval_validation/accuracy"] == 0.5
    assert metrics.copy()["loss"] == metrics.get("loss") == 1.0
    assert metrics.get("f1", 7) == 7
    assert metrics.pop("loss") == 1.0
    assert "eval_loss" not in metrics
    with pytest.raises(KeyError, match=r"f1.*eval_validation/accuracy"):
        metrics["f1"]


def test_arguments_keep_their_types_and_strange_names_are_said(caplog: pytest.LogCaptureFixture) -> None:
    args = types.SimpleNamespace(seed=1, learning_rate=0.1, bf16=False, optim="sgd", warmup_steps=0, extra=None)
    set_arguments(
        args, {"seed": 3.0, "learning_rate": 1, "bf16": 1, "warmup_steps": 0.25, "extra": "x", "learning_rte": 2}
    )
    assert vars(args) == {
        "seed": 3, "learning_rate": 1.0, "bf16": True, "optim": "sgd", "warmup_steps": 0.25, "extra": "x",
    }  # fmt: skip
    assert "did you mean learning_rate" in caplog.text


def test_misuse_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(tmp_path)
    with pytest.raises(ValueError, match=r"optna.*did you mean 'optuna'"):
        trainer.hyperparameter_search(backend="optna")
    with pytest.raises(ValueError, match="journal"):
        trainer.hyperparameter_search(n_jobs=2)
    trainer.model_init = None
    with pytest.raises(RuntimeError, match="model_init"):
        trainer.hyperparameter_search()
    for kind in BACKENDS.values():
        monkeypatch.setattr(kind, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"pip install 'ray\[tune\]'"):
        find_backend("ray")
    with pytest.raises(RuntimeError, match=r"pip install optuna(?s:.*)pip install wandb"):
        find_backend(None)


def test_backends_have_the_names_users_write() -> None:
    assert list(BACKENDS) == list(HPSearchBackend) == ["optuna", "ray", "wandb"]


class FakeTune(types.ModuleType):
    """As much of `ray.tune` as a search asks for; trials run one after another."""

    def __init__(self) -> None:
        super().__init__("ray.tune")
        self.reports: list[list[dict[str, Any]]] = []
        self.Checkpoint = types.SimpleNamespace(
            from_directory=lambda folder: sorted(path.name for path in Path(folder).iterdir())
        )

    def with_parameters(self, function: Any, **values: Any) -> Any:
        return lambda config: function(config, **values)

    def get_checkpoint(self) -> None:
        return None

    def get_context(self) -> Any:
        return types.SimpleNamespace(get_trial_id=lambda: f"trial{len(self.reports)}")

    def report(self, metrics: dict[str, Any], checkpoint: Any = None) -> None:
        self.reports[-1].append({**metrics, "checkpoint": checkpoint})

    def run(self, function: Any, config: dict[str, Any], num_samples: int, **options: Any) -> Any:
        assert options["resources_per_trial"] == {"cpu": 1}
        done = []
        for sample in range(num_samples):
            self.reports.append([])
            values = {name: choose(sample) for name, choose in config.items()}
            function(values)
            done.append(
                types.SimpleNamespace(trial_id=f"trial{sample}", last_result=self.reports[-1][-1], config=values)
            )

        def get_best_trial(metric: str, mode: str, scope: str) -> Any:
            assert (mode, scope) == ("min", "last")
            return min(done, key=lambda trial: trial.last_result[metric])

        return types.SimpleNamespace(get_best_trial=get_best_trial)


def test_ray_runs_trials_and_gives_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune = FakeTune()
    ray = types.ModuleType("ray")
    ray.__spec__ = tune.__spec__ = ModuleSpec("ray", None)
    ray.tune = tune  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.tune", tune)
    monkeypatch.setattr(BACKENDS[HPSearchBackend.RAY], "is_available", lambda: True)
    space = {"learning_rate": lambda sample: (0.001, 0.1)[sample]}
    best = make(tmp_path).hyperparameter_search(space, lambda metrics: metrics["loss"], n_trials=2, backend="ray")
    assert best.run_id == "trial1"
    assert best.hyperparameters == {"learning_rate": 0.1}
    assert best.objective == tune.reports[1][-1]["eval_loss"] < tune.reports[0][-1]["eval_loss"]
    assert [len(reports) for reports in tune.reports] == [2, 2]


def test_wandb_runs_a_sweep_and_gives_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from instar import TrainerCallback

    integrations = types.ModuleType("transformers.integrations")
    integrations.WandbCallback = type("WandbCallback", (TrainerCallback,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers.integrations", integrations)
    wandb = types.ModuleType("wandb")
    wandb.__spec__ = ModuleSpec("wandb", None)
    wandb.run = None  # type: ignore[attr-defined]
    swept: dict[str, Any] = {}

    class Settings(dict[str, Any]):
        def update(self, *values: Any, **_: Any) -> None:
            super().update(*values)

    def agent(sweep: str, function: Any, count: int, **place: Any) -> None:
        assert (sweep, place) == ("sweep-1", {"project": "p"})
        for number in range(count):
            wandb.config = Settings(learning_rate=(0.1, 0.001)[number])  # type: ignore[attr-defined]
            wandb.run = types.SimpleNamespace(id=f"run{number}", name=f"n{number}", config=wandb.config)  # type: ignore[attr-defined]
            function()

    wandb.sweep = lambda config, project, entity: swept.update(config) or "sweep-1"  # type: ignore[attr-defined]
    wandb.agent = agent  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(BACKENDS[HPSearchBackend.WANDB], "is_available", lambda: True)

    best = make(tmp_path, compute_metrics=None).hyperparameter_search(n_trials=2, backend="wandb", project="p")
    assert swept["metric"] == {"name": "eval/loss", "goal": "minimize"}
    assert (best.run_id, best.run_summary) == ("run0", "sweep-1")
    assert best.hyperparameters["learning_rate"] == 0.1
