"""Scores from predictions and labels, out of sums and counts."""
