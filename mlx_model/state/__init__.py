"""What is kept of everything that was read, so that nothing is read twice: see `history_tree`."""
