"""What has not been used for longest goes first."""

from mlx_model.state.recent_store import RecentStore


def test_the_least_recently_used_goes_first() -> None:
    store: RecentStore[str, int] = RecentStore(2)
    store.put("a", 1)
    store.put("b", 2)
    assert store.get("a") == 1
    store.put("c", 3)
    assert [store.get(key) for key in "abc"] == [1, None, 3]


def test_sizes_are_added_up_and_never_above_the_capacity() -> None:
    store: RecentStore[str, bytes] = RecentStore(10, len)
    for key, size in [("a", 4), ("b", 4), ("a", 6), ("c", 3), ("d", 11)]:
        store.put(key, bytes(size))
        assert store.size <= 10
    assert store.get("d") is None, "it is larger than the store"
    assert store.size == 9, "and costs the others nothing"
    store.put("e", bytes(10))
    assert (store.size, store.get("a")) == (10, None)
    store.clear()
    assert (store.size, store.get("e")) == (0, None)
