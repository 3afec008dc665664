"""Genomes: FASTA (plain, gz, bgzip), 2bit, 0-based half-open coordinates, strands, annotation, tracks."""
