"""`maskmill annotate`: a page on which a person draws prompts, and the file they are kept in."""
