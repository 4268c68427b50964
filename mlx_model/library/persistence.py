"""How a download deals with trouble: which is worth another try, after how long, and when to stop.

Turns what went wrong into a sentence for a person. Knows nothing of files.
"""

import email.utils
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import httpx2
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import parse_ratelimit_headers

from mlx_model.errors import DownloadError
from mlx_model.library.download_events import DownloadTrouble

# Nobody waits longer than this for a server that says when to come back.
_LONGEST_TOLD_WAIT_S = 3600.0
_WORTH_A_TRY = frozenset({408, 416, 425, 429})
_KEPT = "What has arrived is kept: start the download again when the connection is better."


class AbsentError(DownloadError):
    """The hub does not have it, or does not show it."""


class StoppedError(Exception):
    """The download was stopped on request; nobody needs to be told."""


class OddAnswerError(Exception):
    """An answer that a hub does not give: of another length, of another part, of another kind."""


TROUBLES = (httpx2.RequestError, HfHubHTTPError, OfflineModeIsEnabled, OddAnswerError)

Wait = Callable[[threading.Event, float], None]


def wait_for(stop: threading.Event, seconds: float) -> None:
    """Let time pass, or not once `stop` is set."""
    stop.wait(seconds)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to hold out; times in seconds.

    `stall_s` without a byte is a failure. After each failure in a row the wait doubles, from
    `first_wait_s` to `longest_wait_s`; after `tries` of them the download ends. A byte that
    arrives starts the count again.
    """

    stall_s: float = 10.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    tries: int = 12
    wait: Wait = wait_for


class Persistence:
    """The failures in a row of one errand at `repository` of the hub at `endpoint`."""

    def __init__(
        self,
        repository: str,
        endpoint: str,
        patience: Patience,
        stop: threading.Event,
        with_token: bool,
    ) -> None:
        self._repository = repository
        self._endpoint = endpoint
        self._patience = patience
        self._stop = stop
        self._with_token = with_token
        self._failures = 0

    def progressed(self) -> None:
        """Something has arrived: the count starts again."""
        self._failures = 0

    def check_stop(self) -> None:
        """Raise StoppedError if the download is to stop."""
        if self._stop.is_set():
            raise StoppedError

    def wait(self, trouble: DownloadTrouble) -> None:
        """Let the time pass that `after` gave."""
        self._patience.wait(self._stop, trouble.wait_s)
        self.check_stop()

    def after(self, error: Exception) -> DownloadTrouble:
        """What to show and how long to wait after one of TROUBLES.

        DownloadError if another try is pointless, or this was the last.
        """
        final = self._final(error)
        if final is not None:
            raise final from error
        self._failures += 1
        what = self._described(error)
        if self._failures >= self._patience.tries:
            times = "once" if self._failures == 1 else f"{self._failures} times in a row"
            raise DownloadError(f"{what} ({times}). {_KEPT}") from error
        doubled = self._patience.first_wait_s * 2 ** (self._failures - 1)
        # A server may ask for more patience, never for less: its clock may be wrong.
        wait_s = max(min(self._patience.longest_wait_s, doubled), _told_wait_s(error))
        return DownloadTrouble(f"{what}.", wait_s)

    def _final(self, error: Exception) -> DownloadError | None:
        """The end, where trying again does not help; None where it may."""
        if isinstance(error, OfflineModeIsEnabled):
            return DownloadError(
                "Downloads are switched off by HF_HUB_OFFLINE in the environment. "
                "Remove it and start again."
            )
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return DownloadError(
                f"The connection to {self._endpoint} is not trusted: its certificate is not known "
                "here. If your network inspects connections, name its certificate in SSL_CERT_FILE."
            )
        if not isinstance(error, HfHubHTTPError):
            return None
        status = error.response.status_code
        if status in _WORTH_A_TRY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        elsewhere = error.response.url.netloc != httpx2.URL(self._endpoint).netloc
        if elsewhere and status != HTTPStatus.UNAUTHORIZED:
            # A signed address that has run out; asking the hub again gives a new one.
            return None
        return self._refusal(status)

    def _refusal(self, status: int) -> DownloadError:
        page = f"{self._endpoint}/{self._repository}"
        match status:
            case HTTPStatus.UNAUTHORIZED if self._with_token:
                return DownloadError(
                    "The hub does not accept the access token. Enter a new one from "
                    f"{self._endpoint}/settings/tokens, or try again without any.",
                    token_helps=True,
                )
            case HTTPStatus.UNAUTHORIZED:
                return AbsentError(
                    f"The hub shows {self._repository} only to people with an access token, or "
                    f"does not have it. Check the name, or enter a token from {self._endpoint}"
                    "/settings/tokens.",
                    token_helps=True,
                )
            case HTTPStatus.FORBIDDEN:
                return DownloadError(
                    f"The hub does not give {self._repository} to this account. "
                    f"Open {page}, accept its conditions, and start again."
                )
            case HTTPStatus.NOT_FOUND:
                return AbsentError(
                    f"There is no {self._repository} on the hub. Choose another model."
                )
            case _:
                return DownloadError(
                    f"The hub refused to send {self._repository} (answer {status}). "
                    f"Open {page} to see whether it is still there."
                )

    def _described(self, error: Exception) -> str:
        """What happened, without a full stop."""
        if isinstance(error, HfHubHTTPError):
            status = error.response.status_code
            if status == HTTPStatus.TOO_MANY_REQUESTS:
                return "The hub asks to wait because of too many requests"
            return f"The hub has a problem of its own, error {status}"
        if isinstance(error, OddAnswerError):
            return f"Something answered in the hub's place, a sign-in page perhaps: {error}"
        if isinstance(error, httpx2.TimeoutException):
            return "Nothing arrives from the hub"
        if isinstance(error, httpx2.ConnectError | httpx2.ProxyError):
            return f"{error.request.url.netloc.decode()} cannot be reached"
        return "The connection was interrupted"


def _told_wait_s(error: Exception) -> float:
    """The seconds that the server wants a client to wait; 0 if it does not say."""
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    headers = error.response.headers
    told = headers.get("Retry-After", "").strip()
    limit = parse_ratelimit_headers(headers)
    seconds: float
    if told.isdecimal():
        seconds = int(told)
    elif told and (date := _date_s(told)) is not None:
        seconds = date - time.time()
    elif limit is not None and limit.remaining == 0:
        seconds = limit.reset_in_seconds
    else:
        return 0.0
    return min(seconds, _LONGEST_TOLD_WAIT_S)


def _date_s(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
