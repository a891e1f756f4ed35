"""The pages that show an evaluation or a comparison."""
