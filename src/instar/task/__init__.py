"""What to predict: inputs and targets of one whole step; one file each."""
