"""The window: what is seen and clicked, the conversation, and the thread that the engine runs on."""
