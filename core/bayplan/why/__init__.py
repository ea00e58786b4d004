"""Why pods wait and what would help, in sentences for people."""
