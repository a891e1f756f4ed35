"""Queries about an image: the wordings, the image as it is sent, the exchange with the model."""
