"""Values of the characters of a genome: masking probabilities and those of a probe, in and out of files, and seen."""
