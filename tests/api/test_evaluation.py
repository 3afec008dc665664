"""Evaluation and prediction: every row once, the loss over targets, what is kept, and what is left as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers.trainer_utils import EvalPrediction, denumpify_detensorize, get_last_checkpoint

from instar.api.containers import Pile, stack_rows
from instar.api.targets import count_targets
from tests.api.evaluation_parts import Line, LineData, WordData, Words, pad

BATCH_SIZES = (1, 4, 7, 16)


def make(folder: Path, model: Any, data: Any, **options: Any) -> Any:
    from instar import Trainer, TrainingArguments

    passed = {
        name: options.pop(name)
        for name in ("compute_metrics", "preprocess_logits_for_metrics", "data_collator", "compute_loss_func")
        if name in options
    }
    kind = options.pop("kind", Trainer)
    args = TrainingArguments(str(folder), report_to="none", use_cpu=True, disable_tqdm=True, **options)
    return kind(model, args, eval_dataset=data, **passed)


def true_loss(model: Words, data: WordData) -> float:
    logits = torch.cat([model(torch.tensor(row))["logits"] for row in data.ids])
    labels = torch.tensor(np.concatenate(data.labels))
    return F.cross_entropy(logits.double(), labels).item()


@pytest.mark.parametrize("ragged", [False, True])
def test_the_loss_does_not_depend_on_the_batch_size(tmp_path: Path, *, ragged: bool) -> None:
    model, data = Words(), WordData(ragged=ragged)
    found = [
        make(tmp_path, model, data, per_device_eval_batch_size=size, data_collator=pad).evaluate()["eval_loss"]
        for size in BATCH_SIZES
    ]
    assert found == pytest.approx([true_loss(model, data)] * len(BATCH_SIZES), rel=1e-6)


@pytest.mark.parametrize("length", [64, 66])
def test_every_row_is_predicted_once_in_order(tmp_path: Path, length: int) -> None:
    data = LineData(length)
    trainer = make(tmp_path, Line(), data, compute_metrics=lambda seen: {"error": np.abs(seen[0] - seen[1]).mean()})
    expected = 1.5 * data.x + 2.5
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(((expected - data.y) ** 2).mean(), rel=1e-5)
    assert metrics["eval_error"] == pytest.approx(np.abs(expected - data.y).mean(), rel=1e-5)
    assert isinstance(metrics["eval_error"], float)
    output = trainer.predict(data)
    np.testing.assert_allclose(output.predictions, expected, rtol=1e-6)
    np.testing.assert_array_equal(output.label_ids, data.y)
    assert {"test_loss", "test_error", "test_runtime", "test_samples_per_second"} <= set(output.metrics)


def test_several_outputs_and_labels_come_as_tuples(tmp_path: Path) -> None:
    data = LineData(19, names=("labels", "labels_2"))
    trainer = make(tmp_path, Line(num_outputs=2), data, label_names=["labels", "labels_2"])
    predictions, labels, _ = trainer.predict(data)
    assert len(predictions) == len(labels) == 2
    np.testing.assert_array_equal(predictions[0], predictions[1])
    np.testing.assert_array_equal(labels[1], data.y)


def test_nested_outputs_keep_their_structure_and_ignored_keys_go(tmp_path: Path) -> None:
    data = WordData(ragged=True)
    trainer = make(tmp_path, Words(), data, data_collator=pad)
    logits, (first, (second,)) = trainer.predict(data).predictions
    assert logits.shape == first.shape == second.shape == (53, 8, 11)
    lengths = np.array([len(row) for row in data.ids])
    whole = logits[lengths == 8]
    assert (whole != -100).all()
    shortest_batch = slice(*next((i, i + 8) for i in range(0, 53, 8) if lengths[i : i + 8].max() < 8))
    assert (logits[shortest_batch, -1] == -100).all()
    assert trainer.predict(data, ignore_keys=["hidden_states"]).predictions.shape == (53, 8, 11)


@pytest.mark.parametrize("steps", [None, 1, 3, 100])
def test_accumulation_on_the_device_changes_nothing(tmp_path: Path, steps: int | None) -> None:
    data = WordData(ragged=True)
    model = Words()
    plain = make(tmp_path, model, data, data_collator=pad).predict(data, ignore_keys=["hidden_states"])
    other = make(tmp_path, model, data, data_collator=pad, eval_accumulation_steps=steps).predict(
        data, ignore_keys=["hidden_states"]
    )
    np.testing.assert_array_equal(plain.predictions, other.predictions)
    np.testing.assert_array_equal(plain.label_ids, other.label_ids)


def test_batches_come_as_a_list_when_they_are_not_to_be_joined(tmp_path: Path) -> None:
    data = WordData(20, ragged=True)
    trainer = make(tmp_path, Words(), data, data_collator=pad, eval_do_concat_batches=False)
    output = trainer.predict(data, ignore_keys=["hidden_states"])
    assert [len(batch) for batch in output.predictions] == [8, 8, 4]
    assert np.isfinite(output.metrics["test_loss"])


def test_users_metrics_get_the_prefix_unless_they_have_it(tmp_path: Path) -> None:
    trainer = make(
        tmp_path, Line(), LineData(8), compute_metrics=lambda seen: {"validation/accuracy": 1.0, "validation_f1": 0.5}
    )
    metrics = trainer.evaluate(metric_key_prefix="validation")
    assert {"validation_validation/accuracy", "validation_f1", "validation_loss", "validation_runtime"} <= set(metrics)


def test_several_sets_are_evaluated_under_their_names(tmp_path: Path) -> None:
    sets = {"near": LineData(8), "far": LineData(24)}
    trainer = make(tmp_path, Line(), sets)
    metrics = trainer.evaluate()
    assert {"eval_near_loss", "eval_far_loss"} <= set(metrics)
    assert trainer.evaluate(eval_dataset="far")["eval_loss"] == metrics["eval_far_loss"]
    assert set(trainer.evaluate({"only": sets["near"]})) >= {"eval_only_loss"}


def test_metrics_by_batch_see_each_batch_and_give_a_result_at_the_last(tmp_path: Path) -> None:
    seen: list[tuple[int, bool]] = []

    def compute(prediction: EvalPrediction, *, compute_result: bool) -> dict[str, float] | None:
        assert isinstance(prediction.predictions, torch.Tensor)
        seen.append((len(prediction.predictions), compute_result))
        return {"rows": float(sum(rows for rows, _ in seen))} if compute_result else None

    data = LineData(19)
    trainer = make(tmp_path, Line(), data, compute_metrics=compute, batch_eval_metrics=True)
    assert trainer.evaluate()["eval_rows"] == 19
    assert seen == [(8, False), (8, False), (3, True)]
    seen.clear()
    assert len(trainer.predict(data).predictions) == 19


def test_logits_are_preprocessed_before_they_are_kept(tmp_path: Path) -> None:
    data = LineData(11)
    trainer = make(
        tmp_path, Line(), data, preprocess_logits_for_metrics=lambda logits, labels: (logits + 1, labels * 2)
    )
    (plus_one, doubled), labels, _ = trainer.predict(data)
    np.testing.assert_allclose(plus_one, 1.5 * data.x + 3.5, rtol=1e-6)
    np.testing.assert_allclose(doubled, 2 * labels)


def test_inputs_and_losses_are_given_where_asked_for(tmp_path: Path) -> None:
    kept: list[EvalPrediction] = []

    def compute(seen: EvalPrediction) -> dict[str, float]:
        kept.append(seen)
        return {}

    data = WordData(11)
    make(tmp_path, Words(), data, data_collator=pad, compute_metrics=compute).evaluate()
    make(
        tmp_path, Words(), data, data_collator=pad, compute_metrics=compute, include_for_metrics=["inputs", "loss"]
    ).evaluate()
    plain, full = kept
    assert len(list(plain)) == 2
    assert plain.inputs is plain.losses is None
    np.testing.assert_array_equal(full.inputs, np.stack(data.ids))
    assert full.losses.shape == (11,)
    assert len(set(full.losses[:8].tolist())) == 1
    with pytest.raises(IndexError):
        plain[2]


def test_nothing_is_kept_where_nothing_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[Any] = []
    monkeypatch.setattr(Pile, "add", lambda self, nest: added.append(nest))
    make(tmp_path, Line(), LineData()).evaluate()
    make(tmp_path, Line(), LineData(), prediction_loss_only=True, compute_metrics=lambda seen: {}).evaluate()
    assert added == []


def test_a_loss_that_is_no_number_is_shown(tmp_path: Path) -> None:
    data = LineData()
    data.y[50] = np.nan
    assert np.isnan(make(tmp_path, Line(), data).evaluate()["eval_loss"])
    data.y[50] = np.inf
    assert np.isinf(make(tmp_path, Line(), data).evaluate()["eval_loss"])


def test_a_batch_without_targets_counts_for_nothing(tmp_path: Path) -> None:
    data = WordData(16)
    model = Words()
    for row in data.labels[8:]:
        row[:] = -100
    loss = make(tmp_path, model, data, data_collator=pad).evaluate()["eval_loss"]
    assert loss == pytest.approx(true_loss(model, data), rel=1e-6)


def test_overrides_of_prediction_step_take_effect(tmp_path: Path) -> None:
    from instar import Trainer

    class Doubling(Trainer):
        def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: Any, ignore_keys: Any = None) -> Any:
            loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
            return loss, None if logits is None else logits * 2, labels

    class Own(Trainer):
        def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: Any, ignore_keys: Any = None) -> Any:
            return torch.tensor(7.0), {"rows": inputs["input_x"]}, None

    data = LineData(9)
    np.testing.assert_allclose(make(tmp_path, Line(), data, kind=Doubling).predict(data).predictions, 3 * data.x + 5)
    assert np.isfinite(make(tmp_path, Line(), data, kind=Doubling).evaluate()["eval_loss"])
    output = make(tmp_path, Line(), data, kind=Own).predict(data)
    np.testing.assert_array_equal(output.predictions["rows"], data.x)
    assert (output.label_ids, output.metrics["test_loss"]) == (None, 7.0)


def test_the_old_loop_says_its_new_name(tmp_path: Path) -> None:
    trainer = make(tmp_path, Line(), LineData(9))
    loader = trainer.get_eval_dataloader()
    with pytest.warns(FutureWarning, match="evaluation_loop"):
        output = trainer.prediction_loop(dataloader=loader, description="old", prediction_loss_only=False)
    assert output.num_samples == len(output.predictions) == 9


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    class Framed(Line):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.frozen = torch.nn.Linear(2, 2), torch.nn.Dropout()

    model = Framed()
    model.register_buffer("scale", torch.tensor([0.1]))
    model.train()
    model.frozen.eval()
    weight = model.a.detach().clone()
    buffer = model.scale.clone()
    data = LineData(9)
    output = make(tmp_path, model, data, bf16_full_eval=True).predict(data)
    assert output.predictions.dtype == np.float32
    assert (model.training, model.inner.training, model.frozen.training) == (True, True, False)
    assert torch.equal(model.a, weight)
    assert torch.equal(model.scale, buffer)
    assert model.a.dtype == torch.float32


def test_an_output_that_cannot_be_gathered_is_named(tmp_path: Path) -> None:
    class Speaking(Line):
        def forward(self, input_x: Any, labels: Any = None, **_: Any) -> Any:
            loss, y = super().forward(input_x, labels)
            return {"loss": loss, "logits": y, "words": "some text"}

    data = LineData(8)
    with pytest.raises(TypeError, match="ignore_keys"):
        make(tmp_path, Speaking(), data).predict(data)
    assert make(tmp_path, Speaking(), data).predict(data, ignore_keys=["words"]).predictions.shape == (8,)


def test_a_piece_of_a_batch_of_one_row_is_no_batch(tmp_path: Path) -> None:
    class Bare(Line):
        def forward(self, input_x: Any, labels: Any = None, **_: Any) -> Any:
            return torch.stack([input_x, input_x], dim=1)

    data = LineData(3, names=())
    output = make(tmp_path, Bare(), data, per_device_eval_batch_size=1).predict(data)
    assert output.predictions.shape == (3, 2)
    assert output.label_ids is None


@pytest.mark.parametrize("known", [False, True])
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=9))
def test_a_pile_holds_what_was_put_on_it(known: bool, shapes: list[tuple[int, int]]) -> None:  # noqa: FBT001
    numbers = np.random.default_rng(0)
    batches = [numbers.integers(0, 9, shape).astype(np.int64) for shape in shapes]
    pile = Pile(num_rows=sum(map(len, batches)) if known else None, batches_on_device=2)
    for batch in batches:
        pile.add({"a": torch.from_numpy(batch), "b": (torch.from_numpy(batch), None)})
    found = pile.take()["a"]
    assert found.shape == (sum(map(len, batches)), max(size for _, size in shapes))
    first = 0
    for batch in batches:
        rows = found[first : first + len(batch)]
        np.testing.assert_array_equal(rows[:, : batch.shape[1]], batch)
        assert (rows[:, batch.shape[1] :] == -100).all()
        first += len(batch)


def test_a_pile_is_linear_in_its_batches() -> None:
    """Each number is written at most twice: the bytes that NumPy allocates say so."""
    import tracemalloc

    def peak(count: int) -> int:
        pile = Pile()
        batches = [torch.ones(8, 64 + (index % 2)) for index in range(count)]
        tracemalloc.start()
        for batch in batches:
            pile.add(batch)
        pile.take()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(400) < 5 * peak(100)


def test_padding_fits_into_the_type() -> None:
    flags = stack_rows([np.array([[True]]), np.array([[True, False]])])
    assert flags.tolist() == [[1, -100], [1, 0]]
    small = stack_rows([np.array([[200]], np.uint8), np.array([[1, 2]], np.uint8)])
    assert small.tolist() == [[200, -100], [1, 2]]


def test_targets_are_counted_as_the_loss_counts_them() -> None:
    labels = torch.tensor([[1, -100, 3], [4, 5, -100]])
    assert count_targets({"labels": labels}, ["labels"]) == 4
    assert count_targets({"labels": labels}, ["labels"], shifts=True) == 2
    assert count_targets({"labels": labels, "shift_labels": labels[:, 1:]}, ["labels"], shifts=True) == 2
    assert count_targets({"labels": labels.float()}, ["labels"]) == 6
    assert count_targets({"start": labels, "end": labels}, ["start", "end"]) is None
    assert count_targets({"labels": [{"boxes": labels}]}, ["labels"]) is None


def test_numbers_leave_numpy_and_torch() -> None:
    nest = {"a": np.float32(1.5), "b": [torch.tensor(2), np.int64(3)], "c": (np.array([1.0]).mean(), "text")}
    plain = denumpify_detensorize(nest)
    assert plain == {"a": 1.5, "b": [2, 3], "c": (1.0, "text")}
    assert [type(value) for value in (plain["a"], *plain["b"], plain["c"][0])] == [float, int, int, float]


def test_the_last_checkpoint_is_the_highest_number(tmp_path: Path) -> None:
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-x", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-99").touch()
    assert get_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert get_last_checkpoint(tmp_path / "other") is None
