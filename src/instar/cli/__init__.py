"""One file a verb; parses, hands over, decides nothing; imports nothing heavy until the verb runs."""
