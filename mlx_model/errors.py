"""Errors that a person can meet; each message is a whole sentence that can be shown as it is."""


class FiresideError(Exception):
    """Something a person can do something about: `str(error)` says what happened and what to do."""


class CheckpointError(FiresideError):
    """A checkpoint folder that cannot be loaded; names the file and the tensors at fault."""


class IncompleteError(CheckpointError):
    """A checkpoint of which files, or parts of them, have not arrived."""


class TooLargeError(FiresideError):
    """A model that this machine has no room for; a person may have it opened all the same."""


class SelfCheckError(CheckpointError):
    """A model that is not in its right mind; says how that showed."""


class MediaError(FiresideError):
    """A picture or clip that cannot be read."""


class PromptError(FiresideError):
    """A conversation that the model's chat template refuses."""


class DownloadError(FiresideError):
    """A download that cannot go on; says what to do.

    `token_helps` is True where it may go on with an access token, or with another one.
    """

    def __init__(self, sentence: str, token_helps: bool = False) -> None:
        super().__init__(sentence)
        self.token_helps = token_helps
