"""Errors that a person can meet; each message is a whole sentence that can be shown as it is."""


class FiresideError(Exception):
    """Something a person can do something about: `str(error)` says what happened and what to do."""


class CheckpointError(FiresideError):
    """A checkpoint folder that cannot be loaded; names the file and the tensors at fault."""


class MediaError(FiresideError):
    """A picture or clip that cannot be read."""


class PromptError(FiresideError):
    """A conversation that the model's chat template refuses."""
