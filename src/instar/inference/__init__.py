"""Using a network without training it: evaluate, predict."""
