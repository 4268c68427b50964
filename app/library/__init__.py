"""The models on screen: a card for each, what it costs, and getting, using and deleting it."""
