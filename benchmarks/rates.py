"""Learning rates of a real run that was stopped and taken up again in four ways: `python benchmarks/rates.py FOLDER`.

A small language model of the speeches trains until a file `stop` ends it. It is resumed; continued as a new phase;
rewarmed to a cosine when it is over; and made longer from the checkpoint before its fall. The rates are those logged.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from instar.cli.init import recipes
from instar.core.files.json_files import read_lines
from instar.core.rundir import RunFolder
from instar.report.theme import LIGHT, draw_figure, render
from instar.report.writing import to_csv
from instar.run.train import train
from instar.trainer import Callback

Curve = list[tuple[int, float]]
COMMON = ("train.log_every=1", "train.eval_every=null", "data.eval=null", "train.keep_last=9")


class StopAt(Callback):
    """Puts the file `stop` into the run folder at the end of a step."""

    def __init__(self, run: RunFolder, step: int) -> None:
        self.run, self.step = run, step

    def step_ended(self, state: Any, result: Any) -> None:
        """The run obeys after the next step."""
        del result
        if state.step == self.step - 1:
            self.run.stop_file.touch()


def curve(folder: Path, first: int = 0) -> Curve:
    """(step, rate) of each step of a run, counted on from `first`."""
    lines = read_lines(folder / "metrics.jsonl")
    return [(line["step"] + first, line["lr"]) for line in lines if line["split"] == "train"]


def curves(place: Path, steps: int) -> dict[str, Curve]:
    """Train all of them; name -> rates."""
    recipe = place / "text-characters.yaml"
    recipe.write_bytes(recipes()["text-characters"].read_bytes())
    stop = round(steps * 0.6)
    schedule = "train.schedule={kind: wsd, warmup: 0.05, decay: 0.2}"
    whole = [*COMMON, schedule, f"train.budget={steps} steps"]
    run = place / "run"
    summary = train(recipe, whole, output=run, extra=[StopAt(RunFolder(run), stop)])
    if summary["steps"] != stop:
        raise SystemExit(f"wanted the run to stop at step {stop}; it stopped at {summary['steps']}")
    found = {"until it was stopped": curve(run)}
    on = [f"model={{from: {summary['checkpoint']}, with_optimizer: true}}", "tokenizer=null"]
    left = f"train.budget={steps - stop} steps"
    train(recipe, [*COMMON, *on, "train.schedule={kind: continue}", left], output=place / "continue")
    found["continue"] = curve(place / "continue", stop)
    summary = train(recipe, whole, output=run)
    found["resumed"] = curve(run)[stop:]
    if found["resumed"] != found["continue"]:
        raise SystemExit("the resumed run and the continued one have other rates")
    up = f"train.schedule={{kind: rewarm, over: {steps // 10} steps, then: {{kind: cosine}}}}"
    on = [f"model={{from: {summary['checkpoint']}, with_optimizer: true}}", "tokenizer=null"]
    train(recipe, [*COMMON, *on, up, f"train.budget={steps} steps"], output=place / "rewarm")
    found["rewarm, then cosine"] = curve(place / "rewarm", steps)
    before_fall = run / f"checkpoint-{round(steps * 0.8)}"
    longer = [*COMMON, schedule, f"train.budget={2 * steps} steps"]
    train(recipe, longer, output=run, resume=str(before_fall))
    found["longer, from before the fall"] = curve(run)[round(steps * 0.8) :]
    return found


def draw(axes: Any, theme: Any, found: dict[str, Curve]) -> None:
    """One line a run."""
    for place, (name, points) in enumerate(found.items()):
        style = "--" if name == "resumed" else "-"
        colour = theme.series[place % len(theme.series)]
        axes.plot(*zip(*points, strict=True), label=name, color=colour, linestyle=style, linewidth=1.6)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("learning rate")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=9)


def main() -> None:
    """Write rates.png, rates.svg and rates.csv into the folder, and print what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    found = curves(given.folder, given.steps)
    figure = draw_figure(partial(draw, found=found), LIGHT)
    (given.folder / "rates.png").write_bytes(render(figure, "png"))
    (given.folder / "rates.svg").write_bytes(render(figure, "svg"))
    rows = [(name, *point) for name, points in found.items() for point in points]
    (given.folder / "rates.csv").write_bytes(to_csv(("run", "step", "lr"), rows))
    print(json.dumps({name: {"from": points[0], "to": points[-1]} for name, points in found.items()}))


if __name__ == "__main__":
    main()
