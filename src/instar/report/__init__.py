"""Reads run folders only, and is the only room that draws."""
