"""A run: the driver, its engine contract, the ledger, and what is written about a run."""
