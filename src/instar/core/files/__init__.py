"""Files in and out: found, opened and read within limits; written whole or not at all, and durably."""
