"""The parts of the platform, one module each: how to prepare, start and probe it."""
