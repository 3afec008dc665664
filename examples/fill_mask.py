# %% [markdown]
# # Filling in masked bases
# Trains a small masked language model on a yeast chromosome, and asks it what stands at a masked position.

# %%
from pathlib import Path

from instar.cli.init import recipes
from instar.run.train import train
from instar.use.fill_mask import fill_mask

Path("dna-mlm.yaml").write_bytes(recipes()["dna-mlm"].read_bytes())
summary = train(Path("dna-mlm.yaml"), ["train.budget=60 steps", "train.batch_tokens=1024"], output=Path("runs/dna"))

# %%
found = fill_mask(Path(summary["checkpoint"]), "ATGACCAAAG[MASK]AGCTACG", top=4)
for fill in found["fills"][0]:
    print(fill["token"], round(fill["probability"], 3))
assert len(found["fills"]) == 1
