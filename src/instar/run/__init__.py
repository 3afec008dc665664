"""Composition root of training: config, data, network, task, objective, state; one short function a command."""
