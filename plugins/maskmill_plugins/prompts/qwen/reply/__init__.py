"""From a model's reply to the objects in it."""
