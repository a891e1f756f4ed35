"""A run: every image of the dataset brought to its status, in parallel and resumable."""
