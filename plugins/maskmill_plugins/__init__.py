"""The built-in plugins: ordinary plugins, nothing the core treats specially."""
