"""What a plugin subclasses, and how plugins are found and registered."""
