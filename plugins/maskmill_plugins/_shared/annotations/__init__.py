"""Annotation files of other tools, read into one model: images and their annotations."""
