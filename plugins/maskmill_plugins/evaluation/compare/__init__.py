"""`maskmill compare`: runs against each other."""
