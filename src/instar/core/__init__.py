"""Values and errors that every room may use; imports nothing of ours and nothing heavy."""
