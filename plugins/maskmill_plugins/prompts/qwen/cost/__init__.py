"""The budget of a run, and estimates of what a call uses."""
