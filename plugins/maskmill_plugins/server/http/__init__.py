"""The HTTP interface: routes, errors, security, logs and metrics."""
