"""Which answers are the hub's own word, however its address is written."""

import threading

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from mlx_model.errors import DownloadError
from mlx_model.library.persistence import Patience, Persistence


def refused(address: str) -> HfHubHTTPError:
    request = httpx2.Request("GET", f"{address}/Qwen/Q/resolve/main/a")
    return HfHubHTTPError("no", response=httpx2.Response(404, request=request))


@pytest.mark.parametrize(
    "endpoint", ["https://hub.example", "https://hub.example:443", "https://Hub.Example/mirror"]
)
def test_the_hub_itself_is_believed_and_others_are_not(endpoint: str) -> None:
    persistence = Persistence("Qwen/Q", endpoint, Patience(), threading.Event(), with_token=False)
    assert persistence.after(refused("https://storage.example")).wait_s == 1
    assert persistence.after(refused("https://hub.example:8443")).wait_s == 2
    with pytest.raises(DownloadError, match="There is no Qwen/Q on the hub"):
        persistence.after(refused("https://hub.example"))


@pytest.mark.parametrize(("told", "wait_s"), [("²", 1.0), ("-5", 1.0), ("90000000", 3600.0)])
def test_strange_times_to_wait(told: str, wait_s: float) -> None:
    persistence = Persistence("a/b", "https://a", Patience(), threading.Event(), with_token=False)
    request = httpx2.Request("GET", "https://a/b")
    headers = httpx2.Headers([(b"Retry-After", told.encode("latin-1"))])
    response = httpx2.Response(429, headers=headers, request=request)
    assert persistence.after(HfHubHTTPError("no", response=response)).wait_s == wait_s
