"""The chain in Dagster's terms: how assets are declared and run, jobs, schedules and sensors.

Does not belong here: what an asset does (see `assets`) and where its partitions are stored (see `storage`).
"""
