"""`maskmill compare`: runs compared with each other."""
