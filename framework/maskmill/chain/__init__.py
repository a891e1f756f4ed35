"""One image through the opened plugins of a pipeline."""
