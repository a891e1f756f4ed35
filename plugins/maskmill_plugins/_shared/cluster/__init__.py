"""What the engines for clusters share, and what they run in the workers of Dask and Ray."""
