"""Versions of the chassis's own tables, for the services' migrations to call."""
