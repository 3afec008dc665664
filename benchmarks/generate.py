"""Tokens per second of batched generation beside one prompt at a time: `python benchmarks/generate.py`.

Sixteen prompts of uneven length, 64 new tokens each, greedy, on the CPU. The network has the size of the small GPTs
that train here (4 layers, width 256, 8,000 words); its weights are random, which changes no time. Best of some rounds.
"""

import argparse
import json
import time

import numpy as np
import torch

from instar.inference.decoding import Decoding
from instar.inference.generate import Generator
from instar.model import FromConfig, build_network, use_fast_cpu

PROMPT_LENGTHS = (3, 5, 8, 9, 12, 15, 16, 21, 24, 30, 33, 40, 52, 64, 80, 100)
NEW_TOKENS = 64
VOCABULARY = 8000


class Words:
    """A tokenizer as far as generation of ids looks at it."""

    vocab_size = VOCABULARY
    pad_id, unk_id, cls_id, sep_id, mask_id, bos_id, eos_id = 0, 1, 2, 3, 4, None, None
    special_ids = frozenset(range(5))

    def decode(self, ids: list[int]) -> str:
        """Numbers stand for words."""
        return " ".join(map(str, ids))


def seconds(generator: Generator, batches: list[list[list[int]]]) -> float:
    """Wall time of all batches."""
    started = time.perf_counter()
    for batch in batches:
        rows = generator.continued(batch)
        if any(row["tokens"] != NEW_TOKENS for row in rows):
            raise SystemExit("a row ended early; the comparison would not be even")
    return time.perf_counter() - started


def measured(family: str, threads: int, rounds: int) -> dict[str, object]:
    """Both ways, in turns."""
    torch.set_num_threads(threads)
    use_fast_cpu()
    config = FromConfig(config=family, num_layers=4, hidden_size=256, num_heads=4, max_length=256, dropout=0.0)
    network = build_network(config, head="causal_lm", tokenizer=Words(), seed=0)
    generator = Generator(
        network=network,
        tokenizer=Words(),  # type: ignore[arg-type]
        device=torch.device("cpu"),
        decoding=Decoding(max_new_tokens=NEW_TOKENS, stop_ids=(), batch_tokens=1 << 20),
    )
    draw = np.random.default_rng(0)
    prompts = [draw.integers(5, VOCABULARY, length).tolist() for length in PROMPT_LENGTHS]
    together, alone = [prompts], [[prompt] for prompt in prompts]
    same = [row["ids"] for row in generator.continued(prompts)] == [
        generator.continued([prompt])[0]["ids"] for prompt in prompts
    ]
    times = [(seconds(generator, together), seconds(generator, alone)) for _ in range(rounds)]
    best = [min(column) for column in zip(*times, strict=True)]
    tokens = NEW_TOKENS * len(prompts)
    return {
        "family": family,
        "threads": threads,
        "batched_tokens_per_second": round(tokens / best[0], 1),
        "alone_tokens_per_second": round(tokens / best[1], 1),
        "times": round(best[1] / best[0], 2),
        "same_tokens": same,
    }


def main() -> None:
    """Print one JSON object for each family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    for family in ("gpt2", "llama"):
        print(json.dumps(measured(family, given.threads, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
