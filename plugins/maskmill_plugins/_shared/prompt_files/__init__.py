"""Prompts files, and matching their image names with a dataset."""
