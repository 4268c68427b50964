"""The window: what is seen and clicked, the conversation, and the thread the engine runs on."""
