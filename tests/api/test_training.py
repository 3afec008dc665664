"""How long a Trainer trains, what it logs and tells, and what it does to a model."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar import Trainer, TrainerCallback
from tests.api.training_parts import OwnLoader, Stream, Tagger, arguments, curve, pad, sentences, trainer, weights

# ---- length ----


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ({}, 22, 2),
        ({"num_train_epochs": 0.5}, 6, 6 / 11),
        ({"num_train_epochs": 1.5}, 17, 1 + 6 / 11),
        ({"max_steps": 3}, 3, 3 / 11),
        ({"max_steps": 25, "num_train_epochs": 1}, 25, 2 + 3 / 11),
        ({"gradient_accumulation_steps": 4}, 6, 2),
        ({"gradient_accumulation_steps": 4, "max_steps": 4}, 4, 1 + 4 / 11),
        ({"gradient_accumulation_steps": 40}, 2, 2),
        ({"per_device_train_batch_size": 5}, 18, 2),
        ({"per_device_train_batch_size": 5, "dataloader_drop_last": True}, 16, 2),
        ({"train_dataset": Stream(), "max_steps": 5}, 5, 1),
        ({"train_dataset": Stream(8), "max_steps": 5}, 5, 2 + 1 / 5),
        ({"train_dataset": Stream(0), "max_steps": 5}, 0, 0),
        ({"cls": OwnLoader}, 22, 2),
    ],
)
def test_how_long(options: dict[str, Any], steps: int, epochs: float, tmp_path: Path) -> None:
    tried = trainer(tmp_path, **options)
    output = tried.train()
    assert output.global_step == tried.state.global_step == steps
    assert tried.state.epoch == pytest.approx(epochs)
    assert len(curve(tried)) == steps


def test_a_stream_that_can_be_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Once(Stream):
        def __iter__(self) -> Any:
            while self.samples:
                yield self.samples.pop()

    tried = trainer(tmp_path, train_dataset=Once(8), max_steps=5)
    tried.train()
    assert tried.state.global_step == 2
    assert "not to be a single sample in your epoch_iterator, stopping training at step 2" in caplog.text


def test_a_second_training_begins_anew(tmp_path: Path) -> None:
    tried = trainer(tmp_path, max_steps=4)
    tried.train()
    first = curve(tried)
    tried.train()
    assert tried.state.global_step == 4
    assert len(curve(tried)) == 4
    assert curve(tried) != first


# ---- logs ----


def test_keys_of_logs(tmp_path: Path) -> None:
    tried = trainer(tmp_path, logging_steps=5, logging_first_step=True)
    output = tried.train()
    *steps, end = tried.state.log_history
    assert [line["step"] for line in steps] == [1, 5, 10, 15, 20]
    assert all(list(line) == ["loss", "grad_norm", "learning_rate", "epoch", "step"] for line in steps)
    ends = ["train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss", "epoch"]
    assert list(end) == [*ends, "step"]
    assert list(output.metrics) == ends
    assert [line["learning_rate"] for line in steps] == pytest.approx(
        [0.05 * (22 - done) / 22 for done in (0, 4, 9, 14, 19)]
    )


def test_a_logged_loss_is_the_mean_since_the_last(tmp_path: Path) -> None:
    every, third = trainer(tmp_path), trainer(tmp_path, logging_steps=3)
    output = every.train()
    third.train()
    losses = [loss for _, loss, _ in curve(every)]
    assert [loss for _, loss, _ in curve(third)] == pytest.approx(
        [sum(losses[at : at + 3]) / 3 for at in range(0, 21, 3)], rel=1e-5
    )
    assert output.training_loss == pytest.approx(sum(losses) / 22, rel=1e-5)
    assert third.state.log_history[-1]["train_loss"] == pytest.approx(output.training_loss, rel=1e-5)


@pytest.mark.parametrize(("kind", "tokens"), [("all", None), ("non_padding", "real"), (True, None), (False, 0)])
def test_tokens_are_counted(kind: Any, tokens: Any, tmp_path: Path) -> None:
    def pad_and_mark(samples: list[Any]) -> dict[str, Tensor]:
        batch = pad(samples)
        return batch | {"attention_mask": batch["input_ids"].ne(0).long()}

    class Marked(Tagger):
        def forward(self, input_ids: Tensor, labels: Any = None, attention_mask: Any = None) -> dict[str, Tensor]:
            return super().forward(input_ids, labels)

    tried = trainer(
        tmp_path, model=Marked(), data_collator=pad_and_mark, include_num_input_tokens_seen=kind, num_train_epochs=1
    )
    tried.train()
    real = sum(len(sample["input_ids"]) for sample in sentences())
    seen = tried.state.num_input_tokens_seen
    if tokens == "real":
        assert seen == real
        assert tried.state.log_history[0]["num_input_tokens_seen"] < real
        assert tried.state.log_history[0]["train_tokens_per_second"] > 0
    else:
        assert seen == 0 if tokens == 0 else seen > real


# ---- events ----


class Diary(TrainerCallback):
    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def note(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            assert set(kwargs) >= {"model", "processing_class", "optimizer", "lr_scheduler", "train_dataloader"}
            self.events.append(f"{name[3:]} {state.global_step}")

        return note


def test_events_in_order(tmp_path: Path) -> None:
    diary = Diary()
    tried = trainer(
        tmp_path,
        callbacks=[diary],
        gradient_accumulation_steps=2,
        per_device_train_batch_size=20,
        num_train_epochs=1,
        eval_dataset=sentences(4),
        eval_strategy="epoch",
        logging_steps=2,
    )
    tried.train()
    assert diary.events == [
        "init_end 0",
        "train_begin 0",
        "epoch_begin 0",
        *("step_begin 0", "substep_end 0", "pre_optimizer_step 0", "optimizer_step 0", "step_end 1"),
        *("step_begin 1", "pre_optimizer_step 1", "optimizer_step 1", "step_end 2", "log 2"),
        *("epoch_end 2", "prediction_step 2", "log 2", "evaluate 2"),
        *("log 2", "train_end 2"),
    ]


def test_callbacks_see_gradients_and_steps(tmp_path: Path) -> None:
    class Looks(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            grads = torch.cat([one.grad.flatten() for one in model.parameters()])
            assert grads.norm() <= args.max_grad_norm * 1.001
            self.before = weights(tried)

        def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            assert not torch.equal(self.before, weights(tried))
            assert model.out.weight.grad is not None

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            assert model.out.weight.grad is None
            control.should_training_stop = state.global_step == 4

    tried = trainer(tmp_path, callbacks=[Looks()], max_grad_norm=0.1)
    tried.train()
    assert tried.state.global_step == 4
    assert all(norm > 0.1 for _, _, norm in curve(tried))


def test_an_epoch_can_be_left(tmp_path: Path) -> None:
    class Leave(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_epoch_stop = True

    tried = trainer(tmp_path, callbacks=[Leave()], num_train_epochs=3)
    tried.train()
    assert tried.state.global_step == 3


def test_evaluation_at_the_start_and_at_the_last_step(tmp_path: Path) -> None:
    tried = trainer(
        tmp_path, eval_dataset=sentences(4), eval_strategy="steps", eval_steps=8, eval_on_start=True, max_steps=10
    )
    tried.train()
    assert [line["step"] for line in tried.state.log_history if "eval_loss" in line] == [0, 8, 10]
    assert tried.model.training


# ---- a model ----


def test_no_clipping(tmp_path: Path) -> None:
    ended = {}
    for norm in (0, -1, 1e-3, 1e9):
        tried = trainer(tmp_path, max_grad_norm=norm, optim="sgd", max_steps=3)
        tried.train()
        ended[norm] = weights(tried)
    assert torch.equal(ended[0], ended[1e9])
    assert torch.equal(ended[-1], ended[1e9])
    assert (ended[1e-3] - weights(trainer(tmp_path))).norm() < 3 * 0.05 * 1.1e-3


def test_half_precision(tmp_path: Path) -> None:
    seen = []

    class Looks(Tagger):
        def forward(self, input_ids: Tensor, labels: Any = None) -> Any:
            found = super().forward(input_ids, labels)
            seen.append(found["logits"].dtype)
            return found

    class OwnStep(Trainer):
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
            loss = model(**inputs)["loss"]
            loss.backward()
            return loss.detach()

    for cls in (Trainer, OwnStep):
        tried = trainer(tmp_path, cls=cls, model=Looks(), bf16=True, max_steps=2, eval_dataset=sentences(4))
        tried.train()
        tried.evaluate()
    assert set(seen) == {torch.bfloat16}
    assert tried.model.out.weight.dtype == torch.float32


def test_frozen_parameters_and_those_of_no_optimizer(tmp_path: Path) -> None:
    model = Tagger()
    model.words.weight.requires_grad_(False)
    before = model.words.weight.clone(), model.out.bias.clone()
    optimizer = torch.optim.SGD([model.out.weight], lr=0.1)
    tried = trainer(tmp_path, model=model, optimizers=(optimizer, None), max_steps=4)
    tried.train()
    assert torch.equal(model.words.weight, before[0])
    assert torch.equal(model.out.bias, before[1])
    assert model.out.bias.grad is None
    assert tried.get_num_trainable_parameters() == model.out.weight.numel() + model.out.bias.numel()


def test_the_moving_average_is_judged_and_kept(tmp_path: Path) -> None:
    judged: list[Tensor] = []

    class Judges(Trainer):
        def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
            judged.append(weights(self))
            return super().prediction_step(*args, **kwargs)

    plain = trainer(tmp_path, optim="sgd", max_steps=2)
    start = weights(plain)
    path = [start]

    class Walk(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            path.append(weights(plain))

    plain.add_callback(Walk())
    plain.train()
    wanted = path[0]
    for step in path[1:]:
        wanted = wanted + 0.5 * (step - wanted)
    tried = trainer(
        tmp_path,
        cls=Judges,
        optim="sgd",
        max_steps=2,
        weight_average_decay=0.5,
        eval_dataset=sentences(2),
        eval_strategy="epoch",
    )
    tried.train()
    assert torch.allclose(judged[0], wanted, atol=1e-6)
    assert torch.allclose(weights(tried), wanted, atol=1e-6)


def test_a_new_model_for_each_training(tmp_path: Path) -> None:
    made = []

    def model_init(trial: Any) -> Tagger:
        made.append(trial)
        return Tagger()

    tried = Trainer(
        model_init=model_init, args=arguments(tmp_path, max_steps=2), train_dataset=sentences(), data_collator=pad
    )
    tried.train()
    first = weights(tried)
    tried.train()
    assert torch.equal(weights(tried), first)
    assert made == [None, None, None]
    assert tried.callback_handler.model is tried.model


def test_sizes_and_rates(tmp_path: Path) -> None:
    tried = trainer(tmp_path, gradient_accumulation_steps=3)
    assert tried.get_total_train_batch_size() == tried.get_total_train_batch_size(tried.args) == 12
    with pytest.raises(ValueError, match="optimizer is None"):
        tried.get_learning_rates()
    tried.create_optimizer_and_scheduler(num_training_steps=10)
    assert tried.get_learning_rates() == [0.05, 0.05]
    group = tried.get_optimizer_group(tried.model.out.bias)
    assert group["weight_decay"] == 0.0
    assert len(tried.get_optimizer_group()) == 2
    assert tried.get_optimizer_group(nn.Parameter(torch.zeros(1))) is None
    assert tried.num_examples(tried.get_train_dataloader()) == 44


def test_users_optimizer_and_schedule(tmp_path: Path) -> None:
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    tried = trainer(tmp_path, model=model, optimizers=(optimizer, schedule), max_steps=3)
    tried.train()
    assert tried.optimizer is optimizer
    rates = [line["learning_rate"] for line in tried.state.log_history if "loss" in line]
    assert rates == pytest.approx([0.5, 0.25, 0.5 / 3])


def test_a_schedule_that_follows_scores(tmp_path: Path) -> None:
    tried = trainer(
        tmp_path,
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0, "threshold": 1e9},
        eval_strategy="steps",
        eval_steps=1,
        eval_dataset=sentences(2),
        max_steps=4,
    )
    tried.train()
    rates = [line["learning_rate"] for line in tried.state.log_history if "loss" in line]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]


# ---- costs ----

_CALLS = """
import sys, torch
from torch import nn
from instar import Trainer, TrainingArguments, TrainerCallback
torch.set_num_threads(1)
class M(nn.Module):
    def __init__(self):
        super().__init__(); self.a = nn.Linear(16, 32); self.b = nn.Linear(32, 2)
    def forward(self, x, labels=None):
        y = self.b(torch.relu(self.a(x)))
        return {"loss": nn.functional.cross_entropy(y, labels), "logits": y}
data = [{"x": torch.randn(16), "labels": torch.tensor(i % 2)} for i in range(480)]
calls = 0
def count(frame, event, arg):
    global calls
    calls += event == "call"
def watch(step):
    if step in (20, 40): sys.setprofile(count if step == 20 else None)
class Watch(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs): watch(state.global_step)
args = TrainingArguments(output_dir=sys.argv[1], max_steps=60, save_strategy="no", logging_strategy="no",
                         use_cpu=True, disable_tqdm=True)
loaded = {name for name in ("transformers.trainer", "datasets", "sklearn", "pandas") if name in sys.modules}
trainer = Trainer(M(), args, train_dataset=data, callbacks=[Watch()])
trainer.train()
ours, calls = calls, 0
model = M().train()
groups = [{"params": [p for p in model.parameters() if p.ndim == n], "weight_decay": 0.0} for n in (2, 1)]
optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)  # with the Trainer's groups, each a few calls of its own
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
loader = iter(torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, collate_fn=trainer.data_collator))
for step in range(60):
    watch(step)
    model(**{name: value.to("cpu") for name, value in next(loader).items()})["loss"].backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step(); schedule.step(); optimizer.zero_grad()
print(ours / calls, loaded)
"""


def test_few_calls_a_step_and_a_light_import(tmp_path: Path) -> None:
    """At most 1.35 times the Python calls of a bare loop, for a model so small that all else is seen."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CALLS, str(tmp_path)], capture_output=True, text=True, check=True
    )
    ratio, _, loaded = done.stdout.splitlines()[-1].partition(" ")
    assert float(ratio) <= 1.35
    assert loaded == "set()"


def test_what_is_not_a_number_of_steps_is_none(tmp_path: Path) -> None:
    tried = trainer(tmp_path, train_dataset=Stream(), max_steps=1)
    tried.args.max_steps = -1
    with pytest.raises(ValueError, match="max_steps must be set to a positive value if dataloader does not have"):
        tried.train()
