"""When a run is judged, on how much at a time, and what metrics are given."""

from dataclasses import dataclass

from instar.api.arguments.choices import IntervalStrategy
from instar.api.arguments.option import formerly, option


@dataclass(repr=False)
class EvaluationArguments:
    """When and how evaluation runs."""

    eval_strategy: IntervalStrategy | str = option(
        "no", "when to evaluate: no, steps or epoch", **formerly("evaluation_strategy")
    )
    eval_steps: float | None = option(
        None, "steps between evaluations; below 1: that share of all steps; unset: logging_steps"
    )
    eval_delay: float = option(0, "epochs or steps (by eval_strategy) before the first evaluation")
    per_device_eval_batch_size: int = option(
        8, "samples in an evaluation batch of one device", **formerly("per_gpu_eval_batch_size")
    )
    prediction_loss_only: bool = option(False, "evaluate the loss alone, without keeping outputs")
    eval_on_start: bool = option(False, "evaluate before the first step")
    eval_do_concat_batches: bool = option(True, "give metrics one array for all batches; False: a list of them")
    eval_use_gather_object: bool = option(False, "gather outputs of any type from other processes, not tensors alone")
    eval_accumulation_steps: int | None = option(None, "batches after which outputs go to the CPU; unset: at the end")


@dataclass(repr=False)
class MetricArguments:
    """What `compute_metrics` is given."""

    include_for_metrics: list[str] = option([], "what compute_metrics is given as well: inputs, loss")
    batch_eval_metrics: bool = option(False, "call compute_metrics on every batch, with compute_result on the last")
