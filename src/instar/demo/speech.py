"""Part 7: a causal language model writes speeches, before and after, and is measured in bits."""

import time
import zlib
from dataclasses import dataclass

from instar.demo.child import Children
from instar.demo.network import Subject, texts_of, untrained
from instar.demo.plan import Plan
from instar.demo.screen import Screen
from instar.inference.continuation import continue_ids

PROMPT = "My fellow citizens, we"
_WINDOW = 1 << 15
"""Bytes that gzip looks back."""


@dataclass(frozen=True, kw_only=True)
class Speech:
    """What the part about speeches measured, in bits for each character of the held-out text."""

    before: float
    after: float
    bigram: float
    """Counts of tokens after each token of the training text."""
    gzip: float
    gzip_primed: float
    """gzip that may look back on the end of the training text."""
    num_characters: int
    samples: tuple[str, str]
    """How the network continues the prompt before and after."""


def write(screen: Screen, plan: Plan, children: Children) -> Speech:
    """Show what the causal language model became."""
    screen.part(7, "A causal language model of the same speeches, which writes on")
    subject = untrained(plan.speech)
    before = subject.scores()["bits_per_character"]
    first = _continued(subject, plan)
    _wait(screen, plan, children)
    after = subject.trained(plan.speech)
    bits = float(after.scores()["bits_per_character"])
    last = _continued(after, plan)
    logged = plan.speech.lines("eval")[-1]
    bigram = logged["baseline_loss"] * logged["bits_per_character"] / logged["loss"]
    plain, primed, size = gzip_bits(subject)
    screen.say(f"Before training:  {PROMPT}|{first}")
    screen.say(f"After {plan.sizes.speech:,} steps:  {PROMPT}|{last}")
    result = Speech(
        before=before,
        after=bits,
        bigram=bigram,
        gzip=plain,
        gzip_primed=primed,
        num_characters=size,
        samples=(first, last),
    )
    screen.say(f"Bits for a character of the held-out text ({size:,} characters; fewer is better):")
    screen.table(speech_rows(result))
    return result


def speech_rows(speech: Speech) -> list[tuple[str, str]]:
    """Who needs how many bits."""
    return [
        ("the network before training", f"{speech.before:.2f}"),
        ("gzip -9", f"{speech.gzip:.2f}"),
        ("gzip -9 that has just read training text", f"{speech.gzip_primed:.2f}"),
        ("bigrams: counts of each token after another", f"{speech.bigram:.2f}"),
        ("the network after training", f"{speech.after:.2f}"),
    ]


def gzip_bits(subject: Subject) -> tuple[float, float, int]:
    """Bits of a held-out character by gzip -9, the same with training text to look back on, and the characters."""
    cache = subject.corpus.train
    documents = [document.text for document in subject.saved.config.data.train.documents()]
    held_out = "\n".join(texts_of(subject.held_out, cache, documents))
    train = "\n".join(texts_of(subject.splits.train, cache, documents))
    content = held_out.encode()
    plain = zlib.compressobj(9, zlib.DEFLATED, 31)
    primed = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=train.encode()[-_WINDOW:])
    sizes = [len(packer.compress(content) + packer.flush()) for packer in (plain, primed)]
    return 8 * sizes[0] / len(held_out), 8 * sizes[1] / len(held_out), len(held_out)


def _continued(subject: Subject, plan: Plan) -> str:
    saved = subject.saved
    prompt = saved.tokenizer.encode_batch([PROMPT])[0].ids.tolist()
    ids = continue_ids(saved.network, prompt, plan.sizes.continued, seed=saved.config.seed)
    text = saved.tokenizer.decode(ids[len(prompt) :])
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _wait(screen: Screen, plan: Plan, children: Children) -> None:
    if not children.is_behind(plan.speech):
        return
    with screen.bar(plan.sizes.speech) as bar:
        while children.is_behind(plan.speech):
            lines, scored = plan.speech.lines("train"), plan.speech.lines("eval")
            figures = f"  held out: {scored[-1]['bits_per_character']:.2f} bits a character" if scored else ""
            if lines:
                bar.show(lines[-1]["step"], f"step {lines[-1]['step']:,}  loss {lines[-1]['loss']:.3f}{figures}")
            time.sleep(0.1)
