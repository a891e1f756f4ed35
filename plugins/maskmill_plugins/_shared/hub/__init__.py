"""Models of the Hugging Face hub, or in a folder: found, downloaded and identified."""
