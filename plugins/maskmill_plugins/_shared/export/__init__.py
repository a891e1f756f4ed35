"""Shared by several writers: class numbers, splits, file names, output files, mask maps."""
