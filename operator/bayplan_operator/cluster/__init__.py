"""What the operator reads from the API server and writes to it, one kind of thing a file."""
