"""An end to training that has stopped getting better."""

import logging
from typing import Any

from transformers import trainer_callback

_log = logging.getLogger(__name__)


class EarlyStoppingCallback(trainer_callback.EarlyStoppingCallback):
    """Stops training after `early_stopping_patience` evaluations in a row that did not beat the best so far.

    Only a gain above `early_stopping_threshold`, in the unit of the metric, counts. The run must evaluate and name
    its `metric_for_best_model`; else AssertionError. A resumed run goes on counting where it was.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float | None = 0.0) -> None:
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold
        self.early_stopping_patience_counter = 0

    def check_metric_value(self, args: Any, state: Any, control: Any, metric_value: float) -> None:
        """Count an evaluation: from 0 again if it beats the best so far, else one more in vain."""
        gain = 0.0
        if state.best_metric is not None:
            gain = metric_value - state.best_metric if args.greater_is_better else state.best_metric - metric_value
        is_better = state.best_metric is None or (gain > 0 and gain > (self.early_stopping_threshold or 0.0))
        self.early_stopping_patience_counter = 0 if is_better else self.early_stopping_patience_counter + 1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not args.load_best_model_at_end:
            _log.warning(
                "EarlyStoppingCallback without load_best_model_at_end=True: after training, the model is the last "
                "one, not the best one"
            )
        if args.metric_for_best_model is None:
            raise AssertionError("EarlyStoppingCallback requires metric_for_best_model to be defined")
        if args.eval_strategy == "no":
            raise AssertionError("EarlyStoppingCallback requires an eval_strategy of steps or epoch")

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        name = metric_name(args.metric_for_best_model)
        if (metrics or {}).get(name) is None:
            _log.warning("early stopping is off: the evaluation gave no %s; it gave %s", name, sorted(metrics or {}))
            return
        self.check_metric_value(args, state, control, metrics[name])
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


def metric_name(metric_for_best_model: str) -> str:
    """The name under which an evaluation gives the metric that chooses the best model."""
    return metric_for_best_model if metric_for_best_model.startswith("eval_") else f"eval_{metric_for_best_model}"
