"""What is in the lake and how it got there: partitions, notes of what was ingested, quarantine, choices, histories.

Belongs here: reading and writing it. Does not belong here: which partitions a run makes (see `planning`), and what the
body of an asset does with them (see `assets`).
"""
