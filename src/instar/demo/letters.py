"""Parts 2 to 5: a network learns to fill in letters, is killed half-way, and resumes as if nothing had happened."""

import time
from dataclasses import dataclass
from typing import Any

from instar.core.errors import TrainingError
from instar.core.rundir import RunFolder
from instar.demo.child import Child, Children
from instar.demo.curve import Comparison, compare
from instar.demo.folder import DemoFolder
from instar.demo.network import Subject, untrained
from instar.demo.plan import Plan
from instar.demo.screen import Bar, Screen, Token
from instar.task import StepContext

_PAUSE = 0.1
"""Seconds between two looks at a run's log."""


@dataclass(frozen=True, kw_only=True)
class Letters:
    """What the parts about letters measured."""

    floor: float
    """Share of the masked characters that always guessing a space meets, on the masks of the evaluation."""
    before: float
    after: float
    kill_step: int
    comparison: Comparison


def show_untrained(screen: Screen, plan: Plan) -> tuple[Subject, float]:
    """Part 2; returns the untrained network and the floor."""
    subject = untrained(plan.letters)
    tokens = _paragraph(subject)
    screen.part(2, "Part of a speech, held out from training, with masked letters")
    screen.masked(tokens)
    screen.say(f"What the untrained network fills in ({screen.legend()}):")
    screen.filled(tokens)
    return subject, space_floor(subject)


def train_and_kill(
    screen: Screen, plan: Plan, folder: DemoFolder, children: Children, begun: tuple[Subject, float]
) -> Letters:
    """Parts 3 to 5; `begun` is what part 2 returned."""
    subject, floor = begun
    parameters = sum(parameter.numel() for parameter in subject.saved.network.parameters())
    before = subject.scores()["masked_accuracy"]
    screen.part(3, f"It trains: {parameters:,} weights, {plan.sizes.letters:,} steps, one core")
    screen.say(
        f"Floor: always guessing a space is right in {floor:.1%} of the masked positions. Untrained: {before:.1%}. "
        "(The same run trains on the other core and is left in peace: it is needed for the comparison.)"
    )
    kill_step = _train(screen, plan, folder, children, floor)
    _wait_for_twin(screen, plan, children)
    comparison = compare(RunFolder(plan.letters.folder), RunFolder(plan.twin.folder))
    _announce(screen, comparison, kill_step)
    after = subject.trained(plan.letters)
    accuracy = after.scores()["masked_accuracy"]
    tokens = _paragraph(after)
    masked = [token for token in tokens if token["masked"]]
    screen.part(5, "The same part of the speech, filled in by the trained network")
    screen.filled(tokens)
    screen.say(
        f"{sum(token['right'] for token in masked)} of these {len(masked)} letters are right ({screen.legend()}); "
        f"over all held-out text {accuracy:.1%}, before training {before:.1%}, floor {floor:.1%}."
    )
    scores = plan.letters.lines("eval")[-1]
    screen.say(
        f"Loss {scores['loss']:.3f} nats a letter; counting one letter on either side {scores['baseline_loss']:.3f}."
    )
    return Letters(floor=floor, before=before, after=accuracy, kill_step=kill_step, comparison=comparison)


def space_floor(subject: Subject) -> float:
    """Share of the evaluation's masked positions that hold a space."""
    saved = subject.saved
    (space,) = saved.tokenizer.encode_batch([" "])[0].ids.tolist()
    context = StepContext(seed=saved.config.seed, step=0, progress=1.0, evaluating=True)
    spaces = positions = 0
    for batch in subject.held_out.batches(1 << 14):
        target_M = saved.task.prepare(batch, context).target_M
        if target_M is not None:
            spaces += int((target_M == space).sum())
            positions += len(target_M)
    return spaces / max(1, positions)


def _train(screen: Screen, plan: Plan, folder: DemoFolder, children: Children, floor: float) -> int:
    """Train, kill half-way, train on; returns the step of the kill."""
    stage = plan.letters
    child = children.start(stage)
    with screen.bar(plan.sizes.letters) as bar:
        while child.is_running():
            step = _show(bar, plan, floor)
            children.poll()
            if step >= plan.kill_step and "killed" not in folder.notes and child.has_logged():
                child = _kill(bar, plan, folder, children, child)
            time.sleep(_PAUSE)
        _show(bar, plan, floor)
    killed = folder.notes.get("killed")
    if not isinstance(killed, int):
        raise TrainingError(
            f"{stage.folder}: was trained to its end before it could be killed; choose another --output"
        )
    return killed


def _show(bar: Bar, plan: Plan, floor: float) -> int:
    """Show the newest figures; returns their step."""
    train, held_out = plan.letters.lines("train"), plan.letters.lines("eval")
    if not train:
        return 0
    step = int(train[-1]["step"])
    figures = f"step {step:,}  {train[-1]['tokens_per_second']:,.0f} characters/s"
    if held_out:
        figures += f"  held out: {held_out[-1]['masked_accuracy']:.1%} right (floor {floor:.1%})"
    bar.show(step, figures)
    return step


def _kill(bar: Bar, plan: Plan, folder: DemoFolder, children: Children, child: Child) -> Child:
    """Part 4: SIGKILL, and the same command again."""
    folder.note(killed=int(plan.letters.lines("train")[-1]["step"]))
    child.kill()
    step = int(plan.letters.lines("train")[-1]["step"])
    folder.note(killed=step)
    saved = [number for number, _ in RunFolder(plan.letters.folder).checkpoints()]
    bar.say(
        f"(4) Half-way: the training process was killed (SIGKILL) after step {step:,}, without warning. "
        f"Its newest whole checkpoint is of step {saved[-1] if saved else 0:,}. The same command starts it again:"
    )
    return children.start(plan.letters)


def _wait_for_twin(screen: Screen, plan: Plan, children: Children) -> None:
    if not children.is_behind(plan.twin):
        return
    with screen.bar(plan.sizes.letters) as bar:
        while children.is_behind(plan.twin):
            lines = plan.twin.lines("train")
            bar.show(int(lines[-1]["step"]) if lines else 0, "the uninterrupted run, to compare with")
            time.sleep(_PAUSE)


def _announce(screen: Screen, comparison: Comparison, kill_step: int) -> None:
    answer = "yes" if comparison.is_identical else "NO: " + "; ".join(comparison.differences)
    style = "bold green" if comparison.is_identical else "bold red"
    screen.say(f"(4) Is the killed run identical to the uninterrupted one? {answer}", style=style)
    screen.say(
        f"Compared over the whole run (steps 1 to {comparison.last_step:,}, kill at {kill_step:,}): "
        f"{comparison.num_lines} logged lines with {comparison.num_figures} figures (all but the times), the sample "
        f"predictions, and the final weights and optimizer state; SHA-256 of the weights {comparison.digest[:16]}..."
    )


def _paragraph(subject: Subject) -> list[Token]:
    rows: list[dict[str, Any]] = subject.rows()
    return [token for row in rows for token in row["tokens"]]
