"""Which images: folders, patterns, lists and packages as image references."""
