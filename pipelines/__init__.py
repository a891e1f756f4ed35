"""The ready pipelines, as data: `maskmill init` copies them."""
