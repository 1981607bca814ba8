"""One file that holds what the platform knows, and the way back from it."""
