"""Masks and prompts drawn on pictures."""
