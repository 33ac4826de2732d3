"""What is there, missing or stale, and which runs mend it."""
