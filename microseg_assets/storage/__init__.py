"""What lies in the lake and how it got there: partitions, notes of what was taken in, quarantine, choices, facts.

Belongs here: reading and writing it. Does not belong here: which partitions a run makes (see `planning`), and what a
body of an asset does with them (see `assets`).
"""
