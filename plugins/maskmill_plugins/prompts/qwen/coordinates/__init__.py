"""From a model's numbers to pixels: model families, their conventions, calibration."""
