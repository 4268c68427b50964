"""A store of bounded size that forgets what has not been used for longest."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentStore(Generic[K, V]):
    """Values by key; `size_of` says what one takes of `capacity`, by default one each."""

    def __init__(self, capacity: int, size_of: Callable[[V], int] = lambda _value: 1) -> None:
        self._capacity = capacity
        self._size_of = size_of
        self._values: OrderedDict[K, V] = OrderedDict()
        self.size = 0

    def get(self, key: K) -> V | None:
        """The value, which counts as a use of it."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep it; not at all if it alone is larger than the store."""
        if key in self._values:
            self.size -= self._size_of(self._values.pop(key))
        if self._size_of(value) > self._capacity:
            return
        self._values[key] = value
        self.size += self._size_of(value)
        while self.size > self._capacity:
            self.size -= self._size_of(self._values.popitem(last=False)[1])

    def take(self) -> tuple[K, V] | None:
        """Take out what has not been used for longest; None when it is empty."""
        if not self._values:
            return None
        key, value = self._values.popitem(last=False)
        self.size -= self._size_of(value)
        return key, value

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.size = 0
