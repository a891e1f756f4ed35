"""The pipeline file: from YAML to validated options, with every mistake named by file, line and column."""
