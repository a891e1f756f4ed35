"""Prompts files: reading them, and matching them with the images of a dataset."""
