"""From a model's coordinates to pixels: model families and their conventions."""
