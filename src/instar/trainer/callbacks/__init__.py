"""What happens around training: log, evaluate, save, stop; one file each."""
