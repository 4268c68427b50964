"""One conversation as plain data: no Qt, no engine."""
