"""Using a network without training it: evaluate, predict, fill in, generate."""
