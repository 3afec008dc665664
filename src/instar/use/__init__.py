"""A checkpoint in use: evaluate, predict, generate, chat, fill in, report; one short function a command."""
