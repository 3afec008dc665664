# %% [markdown]
# # A small GPT that writes
# Trains a GPT on real speeches for a minute, and lets it write: one prompt as it comes, many in one batch.

# %%
from pathlib import Path

from instar.cli.init import recipes
from instar.run.train import train
from instar.use.generate import generate, generate_file

Path("text-gpt.yaml").write_bytes(recipes()["text-gpt"].read_bytes())
summary = train(Path("text-gpt.yaml"), ["train.budget=60 steps", "data.max_length=96"], output=Path("runs/gpt"))
checkpoint = Path(summary["checkpoint"])

# %% [markdown]
# One prompt; the text comes in pieces of whole characters.

# %%
options = ["max_new_tokens=40", "temperature=0.8", "top_p=0.95", "log_probabilities=true"]
row = generate(checkpoint, "My fellow Americans", options, log=print, on_text=lambda text: print(text, end=""))
print()
print(row["finish"], sum(row["log_probabilities"]) / row["tokens"], "nats a token")

# %% [markdown]
# Many prompts, in batches; row n draws by (seed, n), whatever it is batched with.

# %%
Path("prompts.txt").write_text("The state of our union\nTonight\nWe must\n")
done = generate_file(checkpoint, input_file=Path("prompts.txt"), output=Path("written.jsonl"), overrides=[], log=print)
assert done["rows"] == 3
