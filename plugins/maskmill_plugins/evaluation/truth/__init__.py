"""Ground truth read from files."""
