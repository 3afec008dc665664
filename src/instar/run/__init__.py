"""Composition root: config -> data -> network -> task -> objective -> state; one short function a command."""
