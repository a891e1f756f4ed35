"""What is done with stored results: export, merge, explain."""
