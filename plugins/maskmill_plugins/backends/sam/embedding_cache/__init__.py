"""Image embeddings kept on disk between runs."""
