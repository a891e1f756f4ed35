"""The example pipelines, as package data: `maskmill init` copies them."""
