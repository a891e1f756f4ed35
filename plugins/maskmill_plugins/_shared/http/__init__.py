"""What the server and its clients share: the wire format, addresses, waiting."""
