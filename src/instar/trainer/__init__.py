"""The loop, one optimizer step, the state they share, the runtime and the callbacks."""
