"""Learning rates as factors of progress; one file each."""
