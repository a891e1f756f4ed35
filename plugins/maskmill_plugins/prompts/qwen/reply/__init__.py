"""Parses a model's reply into objects."""
