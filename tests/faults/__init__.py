"""Faults, tried on this machine: nodes and heads that die, disks that are full, an S3 that fails.

Each module is a script, `python -m tests.faults.NAME`. It prints what it does, and its exit status is 1 if the outcome
is not the one that docs/operations.md promises. They take minutes, so pytest does not run them.
"""
