"""Built-in prompt sources."""
