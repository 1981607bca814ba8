"""Finds the programs that the platform is made of, and installs what is missing."""
