"""Checks the invariants I1 to I6 of a running platform against its own and others' records."""
