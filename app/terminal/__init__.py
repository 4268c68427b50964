"""The window without a screen: a terminal as its composer, and a tour that plays by itself."""
