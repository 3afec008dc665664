"""One model on several processes: what a run asks for, and how plain PyTorch does it."""
