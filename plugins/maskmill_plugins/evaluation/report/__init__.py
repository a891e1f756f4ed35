"""Reports of an evaluation or a comparison: folder, page, tables and pictures."""
