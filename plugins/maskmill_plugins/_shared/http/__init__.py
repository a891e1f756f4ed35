"""Shared by the server and the HTTP clients: the wire format, addresses, and what an answer means."""
