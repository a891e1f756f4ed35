"""Lists for the example pipelines, as package data: `maskmill init` copies them."""
