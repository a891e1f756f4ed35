"""From an image and its prompts to masks."""
