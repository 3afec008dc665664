"""Folders that are complete or absent, and checked before they are believed."""
