"""What is kept about tokens: for how long, how much, and never the tokens."""

from __future__ import annotations

from trio_mcp.auth.token_cache import TokenCache


def test_a_value_is_kept_until_its_time() -> None:
    cache: TokenCache[str] = TokenCache()
    cache.put("token", "found", until=10)
    assert cache.get("token", 9.9) == "found"
    assert cache.get("other", 9.9) is None
    assert cache.get("token", 10) is None
    assert len(cache) == 0


def test_what_was_not_asked_for_longest_makes_room() -> None:
    cache: TokenCache[int] = TokenCache(limit=3)
    for number in range(3):
        cache.put(f"token{number}", number, until=10)
    assert cache.get("token0", 0) == 0
    cache.put("token3", 3, until=10)
    assert len(cache) == 3
    assert [cache.get(f"token{number}", 0) for number in range(4)] == [0, None, 2, 3]


def test_a_value_is_replaced_in_its_place() -> None:
    cache: TokenCache[int] = TokenCache(limit=2)
    cache.put("a", 1, until=10)
    cache.put("b", 2, until=10)
    cache.put("a", 3, until=20)
    cache.put("c", 4, until=10)
    assert [cache.get(name, 0) for name in "abc"] == [3, None, 4]


def test_the_tokens_themselves_are_not_kept() -> None:
    cache: TokenCache[int] = TokenCache()
    cache.put("SECRET", 1, until=10)
    assert "SECRET" not in str(vars(cache))
    cache.put("\ud800", 2, until=10)
    assert cache.get("\ud800", 0) == 2
