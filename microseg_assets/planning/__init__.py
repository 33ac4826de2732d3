"""What is there, missing or stale, and the runs that rebuild it."""
