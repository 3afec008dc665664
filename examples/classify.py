# %% [markdown]
# # From a pretrained network to a classifier
# Pretrains on DNA, crosses to splice sites, and predicts with the names of the labels.

# %%
from pathlib import Path

from instar.cli.init import recipes
from instar.core.files.json_files import read_lines
from instar.run.train import train
from instar.use.evaluate import evaluate
from instar.use.predict import predict

for name in ("dna-mlm", "splice-classify"):
    Path(f"{name}.yaml").write_bytes(recipes()[name].read_bytes())
first = train(Path("dna-mlm.yaml"), ["train.budget=60 steps", "train.batch_tokens=1024"], output=Path("runs/dna"))

# %% [markdown]
# The body goes on, the head is new; the run says which tensors.

# %%
begin = [f"model={{from: {first['checkpoint']}}}", "tokenizer=null", "train.budget=60 steps"]
second = train(Path("splice-classify.yaml"), begin, output=Path("runs/splice"))
print(evaluate(Path(second["checkpoint"]))["accuracy"])

# %%
Path("new.csv").write_text("sequence\n" + "ACGTTGCAAC" * 6 + "\n" + "GGTACCATTG" * 6 + "\n")
predict(Path(second["checkpoint"]), input_file=Path("new.csv"), output=Path("answers.jsonl"))
for row in read_lines(Path("answers.jsonl")):
    print(row["prediction"], round(row["probability"], 3))
    assert set(row["probabilities"]) == {"ei", "ie", "n"}
