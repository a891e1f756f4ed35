"""Annotation files of other tools, read into one form: pictures, and what stands on them."""
