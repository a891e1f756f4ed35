"""`maskmill evaluate`: masks against the truth."""
