"""Genomes: FASTA (plain, gz, bgzip), 0-based half-open coordinates, strands, annotation, tracks."""
