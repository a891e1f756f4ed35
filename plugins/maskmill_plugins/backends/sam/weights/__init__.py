"""Checkpoints: finding, downloading and verifying them."""
