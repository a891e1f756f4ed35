"""report: one self-contained HTML file about the whole run, to look at and to pass on."""

from .writer import Report, register_writers

__all__ = ["Report", "register_writers"]
