"""Values, errors, files and processes: what every room may use; imports nothing of ours and nothing heavy."""
