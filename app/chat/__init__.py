"""The conversation on screen: transcript, composer, chips and the first screen."""
