"""How a team reviews a run: figures of its decisions, and how a page shows them."""

from pathlib import Path

#: The script and the style that show the figures.
WEB = Path(__file__).parent / "web"
