"""The lists that the ready pipelines use, as data: `maskmill init` copies them."""
