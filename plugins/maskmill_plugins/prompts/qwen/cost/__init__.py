"""What a run may spend, what it has spent, and what it will cost."""
