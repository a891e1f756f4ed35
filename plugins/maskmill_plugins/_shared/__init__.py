"""What several built-in plugins need."""
