"""report: one self-contained HTML file about the whole run, to view and share."""

from .writer import Report, register_writers

__all__ = ["Report", "register_writers"]
