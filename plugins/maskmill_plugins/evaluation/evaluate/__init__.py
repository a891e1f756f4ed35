"""`maskmill evaluate`: masks compared with ground truth."""
