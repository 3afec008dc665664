"""FASTA records and coordinates."""
