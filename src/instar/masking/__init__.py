"""Which tokens are hidden, and how; one file a policy."""
