"""Evaluation and prediction: one pass over a data loader, its outputs, its loss and its metrics."""

import logging
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput, denumpify_detensorize, speed_metrics

from instar.api import traits
from instar.api.averaging import Average, averaged_over, labels_of
from instar.api.base import TrainerParts
from instar.api.containers import detach
from instar.api.evaluation_pass import EvaluationPass
from instar.api.learning import Learning
from instar.api.pieces import is_out_of_memory, num_rows
from instar.api.signatures import takes_argument
from instar.api.targets import count_targets
from instar.model.memory import own_memory
from instar.optim.modes import eval_mode, evaluated_weights

_log = logging.getLogger(__name__)


class Evaluating(TrainerParts):
    """Evaluation and prediction."""

    _evaluated_over: Average | None = None
    """What the loss of this evaluation's batches is a mean over; None: not seen yet."""
    _first_row: Any = None
    """The first batch, where it has one row: its mean may be one of anything."""
    model_preparation_time: float | None = None
    """Seconds that the model took to be made ready for an evaluation before any training; None: there was none."""

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The metrics of a dataset (default: `self.eval_dataset`), logged, each name beginning with the prefix.

        A dict of datasets is evaluated one by one under `{prefix}_{name}`; the name of one may be given too.
        """
        given = eval_dataset is not None
        eval_dataset = eval_dataset if given else self.eval_dataset
        if isinstance(eval_dataset, dict):
            metrics: dict[str, float] = {}
            for name, dataset in eval_dataset.items():
                metrics |= self.evaluate(dataset if given else name, ignore_keys, f"{metric_key_prefix}_{name}")
            return metrics

        self._memory_tracker.start("eval")
        dataloader = self.get_eval_dataloader(eval_dataset)
        start_time = time.time()
        loss_only = True if self.compute_metrics is None else None  # logits that nobody reads are not kept
        output = self.evaluation_loop(
            dataloader,
            description="Evaluation",
            prediction_loss_only=loss_only,
            ignore_keys=ignore_keys,
            metric_key_prefix=metric_key_prefix,
        )
        metrics = self._with_speed(output, metric_key_prefix, start_time)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._memory_tracker.stop_and_update_metrics(metrics, "eval")
        return metrics

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Predictions for every row of a dataset in its order; labels and metrics too where it has labels."""
        self._memory_tracker.start("test")
        dataloader = self.get_test_dataloader(test_dataset)
        start_time = time.time()
        output = self.evaluation_loop(
            dataloader, description="Prediction", ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix
        )
        metrics = self._with_speed(output, metric_key_prefix, start_time)
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, metrics)
        self._memory_tracker.stop_and_update_metrics(metrics, "test")
        return PredictionOutput(output.predictions, output.label_ids, metrics)

    def _with_speed(self, output: EvalLoopOutput, prefix: str, start_time: float) -> dict[str, float]:
        metrics = {} if output.metrics is None else output.metrics
        start_time += metrics.get(f"{prefix}_model_preparation_time", 0.0)
        rows = output.num_samples or 0
        steps = math.ceil(rows / (self.args.eval_batch_size * self.args.world_size))
        metrics.update(speed_metrics(prefix, start_time, num_samples=rows, num_steps=steps))
        return metrics

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """One pass over `dataloader`: outputs and labels as arrays (-100 where rows are shorter), loss and metrics.

        The loss is the sum over all targets divided by their number, whatever the batch size; it is NaN if one of
        them is. Outputs are kept only when something needs them. The model is left as it was found.
        """
        loss_only = self.args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only
        _log.info("***** Running %s *****\n  Batch size = %s", description, self.args.eval_batch_size)
        self.callback_handler.eval_dataloader = dataloader
        self._evaluated_over = None
        with self._model_for_evaluation(dataloader) as model:
            this = EvaluationPass(self, dataloader, keeps_outputs=description == "Prediction")
            for inputs, is_last in _with_last(dataloader):
                rows = this.real_rows(inputs)
                step = self.prediction_step(model, rows.inputs, loss_only, ignore_keys=ignore_keys)
                this.add(rows, *step, is_last=is_last)
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        predictions, labels = this.predictions(), this.labels()
        metrics = dict(denumpify_detensorize(this.metrics(predictions, labels)))
        loss = this.loss()
        if loss is not None:
            metrics[f"{metric_key_prefix}_loss"] = loss
        if self.model_preparation_time is not None:
            metrics[f"{metric_key_prefix}_model_preparation_time"] = self.model_preparation_time
        start = f"{metric_key_prefix}_"
        named = {name if name.startswith(start) else start + name: value for name, value in metrics.items()}
        return EvalLoopOutput(predictions, labels, named, this.num_samples())

    def prediction_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The old name of `evaluation_loop`."""
        warnings.warn("prediction_loop is now evaluation_loop, with the same arguments", FutureWarning, stacklevel=2)
        return self.evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)

    def prediction_step(
        self, model: nn.Module, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """(loss, outputs, labels) of one batch without gradients, each None where there is none.

        Outputs are those of the model in their order, without the loss and without `ignore_keys` (by default its
        config's `keys_to_ignore_at_inference`); a single one is not wrapped in a tuple. The loss is a mean.
        """
        names = self.label_names
        has_labels = bool(names) and all(inputs.get(name) is not None for name in names)
        return_loss = inputs.get("return_loss")
        if not names and (self.can_return_loss if return_loss is None else return_loss):
            has_labels = True  # models such as CLIP make their targets themselves
        inputs = self._prepare_inputs(inputs)
        if ignore_keys is None:
            config = getattr(self.model, "config", None)
            has_config = hasattr(self.model, "config")
            ignore_keys = (
                list(getattr(config, "keys_to_ignore_at_inference", ["past_key_values"])) if has_config else []
            )
        # the loss may take the labels out of the batch
        labels = detach(tuple(inputs.get(name) for name in names)) if has_labels else None
        loss = None
        with torch.no_grad(), self.compute_loss_context_manager():
            if has_labels:
                loss, outputs = self._loss_and_outputs(model, inputs, prediction_loss_only)
            else:
                outputs = model(**self._drop_unusable(inputs))
        if prediction_loss_only:
            return loss, None, None
        return loss, _logits(outputs, ignore_keys, has_loss=has_labels), _single(labels)

    def _loss_and_outputs(self, model: nn.Module, inputs: Any, prediction_loss_only: bool) -> tuple[Any, Any]:
        fast_path = self._fast_path if prediction_loss_only and model is self.model else None
        loss = None if fast_path is None else fast_path.loss(inputs)
        if fast_path is not None and loss is not None:
            self._evaluated_over = fast_path.average
            return loss.detach(), None
        options: dict[str, Any] = {}
        is_own = self.compute_loss_func is None and traits.is_own(self, Learning, "compute_loss")
        counts = not is_own and "labels" in inputs
        counts = counts and (self.model_accepts_loss_kwargs or self.compute_loss_func is not None)
        if counts and takes_argument(self.compute_loss, "num_items_in_batch"):
            options["num_items_in_batch"] = count_targets(inputs, ["labels"], shifts=self._loss_shifts_labels)
        seen = dict(inputs)
        if self.args.use_liger_kernel and prediction_loss_only:
            inputs = {**inputs, "skip_logits": True}
        averages = self.args.average_tokens_across_devices
        self.args.average_tokens_across_devices = False  # the ranks' batches are averaged by their targets at the end
        try:
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True, **options)
        finally:
            self.args.average_tokens_across_devices = averages
        self._find_evaluated_over(loss, outputs, seen)
        return loss.detach().mean(), outputs

    def _find_evaluated_over(self, loss: Tensor, outputs: Any, inputs: Any) -> None:
        """What this evaluation's losses are means over; a batch of one row is looked at again with the next."""
        if self._evaluated_over is None:
            self._evaluated_over = self._found_average(loss, outputs, inputs)
            is_open = self._evaluated_over in (Average.LABELS, Average.SHIFTED) and num_rows(inputs) == 1
            self._first_row = inputs if is_open and self.label_smoother is None else None
        elif self._first_row is not None and num_rows(inputs) == 1:
            both = self._joined([self._first_row, inputs])
            self._first_row = None
            if both is not None:
                self._evaluated_over = self._average_of_rows(both) or self._evaluated_over

    def _average_of_rows(self, inputs: Any) -> Average | None:
        """What the loss of rows that were padded here is a mean over; batches weigh alike if the model refuses them."""
        try:
            loss, outputs = self.compute_loss(self.model, dict(inputs), return_outputs=True)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            self._say_weighs_rows()
            return Average.BATCH
        return self._found_average(loss, outputs, inputs)

    def _found_average(self, loss: Tensor, outputs: Any, inputs: Any) -> Average | None:
        """What the loss of an evaluated batch is a mean over; None where this batch has no targets."""
        if self.label_smoother is not None:
            return Average.SHIFTED if traits.is_causal(self.model) else Average.LABELS
        found = averaged_over(loss, outputs, inputs, self._ignored_label)
        is_own = self.compute_loss_func is None and traits.is_own(self, Learning, "compute_loss")
        if found is Average.BATCH and is_own and self.model_accepts_loss_kwargs:
            found = self._average_by_dividing(self.model, inputs, loss.detach().float().mean()) or found
        if found is Average.BATCH and labels_of(inputs) is not None:
            self._say_weighs_rows()
        return found

    def _say_weighs_rows(self) -> None:
        self._say_once(
            f"{type(self.model).__name__}: its loss is no mean over the labels of a batch, as far as it can be "
            "computed again from its outputs; batches of an evaluation weigh by their rows"
        )

    @contextmanager
    def _model_for_evaluation(self, dataloader: Any) -> Iterator[Any]:
        """The model in evaluation mode and precision; every module's mode, weight and optimizer is put back after."""
        start_time = time.time()
        model = self._wrap_model(self.model, training=False, dataloader=dataloader)
        modules = list(model.modules()) if isinstance(model, nn.Module) else []
        if isinstance(model, nn.Module):
            own_memory(model)
        if self._steps is None and self.model_preparation_time is None:
            self.model_preparation_time = round(time.time() - start_time, 4)
        trained = [module for module in modules if module.training]
        if hasattr(model, "eval"):
            model.eval()
        if not self.is_in_train:
            eval_mode(self.optimizer)
        judged = evaluated_weights(self.optimizer) if self.is_in_train else nullcontext()
        try:
            with judged, self._with_average(), self._precision_for_evaluation(model):
                yield model
        finally:
            for module in trained:
                module.training = True

    @contextmanager
    def _precision_for_evaluation(self, model: Any) -> Iterator[None]:
        """Weights in half precision within, where `fp16_full_eval` or `bf16_full_eval` ask for it outside of training.

        The full weights wait in host memory, so that the device holds one copy and nothing is lost by rounding.
        """
        half = torch.float16 if self.args.fp16_full_eval else torch.bfloat16 if self.args.bf16_full_eval else None
        if half is None or self.is_in_train or not isinstance(model, nn.Module):
            yield
            return
        weights = {weight: (weight.data.cpu(), weight.device) for weight in model.parameters()}
        buffers = [(module, name, value) for module in model.modules() for name, value in module._buffers.items()]
        model.to(dtype=half, device=self.args.device)
        try:
            yield
        finally:
            for weight, (value, device) in weights.items():
                weight.data = value.to(device)
            for module, name, buffer in buffers:
                module._buffers[name] = buffer

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: list[str] | None, skip_scheduler: bool = False
    ) -> dict[str, float]:
        """Evaluate amid training; the search and schedulers that follow a metric are told of it."""
        try:
            metrics = self.evaluate(ignore_keys=ignore_keys_for_eval)
        except RuntimeError as error:
            if self.args.auto_find_batch_size and "out of memory" in str(error):
                raise RuntimeError(
                    "evaluation ran out of memory; auto_find_batch_size only adjusts the training batch size: reduce "
                    f"per_device_eval_batch_size (it is {self.args.per_device_eval_batch_size})"
                ) from error
            raise
        self._report_to_hp_search(trial, self.state.global_step, metrics)
        scheduler = self.lr_scheduler
        if not skip_scheduler and scheduler is not None and _follows_metric(scheduler):
            scheduler.step(_metric_for_best(self.args.metric_for_best_model, metrics))
        return metrics


def _follows_metric(scheduler: Any) -> bool:
    return isinstance(scheduler, ReduceLROnPlateau) or "metrics" in signature(scheduler.step).parameters


def _metric_for_best(name: str | None, metrics: Mapping[str, float]) -> float:
    wanted = name or "loss"
    wanted = wanted if wanted.startswith("eval_") else f"eval_{wanted}"
    if wanted not in metrics:
        raise KeyError(
            f"metric_for_best_model is {wanted!r}, which evaluation does not give; it gives {sorted(metrics)}. Let "
            "compute_metrics return it, or name another one"
        )
    return metrics[wanted]


def _logits(outputs: Any, ignore_keys: list[str], *, has_loss: bool) -> Any:
    if isinstance(outputs, Mapping):
        dropped = {*ignore_keys, "loss"} if has_loss else set(ignore_keys)
        outputs = tuple(value for key, value in outputs.items() if key not in dropped)
    elif has_loss and isinstance(outputs, list | tuple):
        outputs = outputs[1:]
    return _single(detach(outputs))


def _single(nest: Any) -> Any:
    return nest[0] if isinstance(nest, list | tuple) and len(nest) == 1 else nest


def _with_last(batches: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    iterator = iter(batches)
    nothing = object()
    batch = next(iterator, nothing)
    while batch is not nothing:
        following = next(iterator, nothing)
        yield batch, following is nothing
        batch = following
