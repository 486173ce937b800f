"""The protocol versions we serve, and what separates them."""

V2024_11_05 = "2024-11-05"
V2025_03_26 = "2025-03-26"
V2025_06_18 = "2025-06-18"
V2025_11_25 = "2025-11-25"
V2026_07_28 = "2026-07-28"

LEGACY_VERSIONS = (V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25)
"""With sessions, oldest first. 2024-11-05 is served over streamable HTTP and stdio, not over its own HTTP+SSE transport."""

LATEST_LEGACY = LEGACY_VERSIONS[-1]

MODERN_VERSIONS = (V2026_07_28,)
"""Without sessions: every request stands alone."""

SERVED_VERSIONS = (*reversed(MODERN_VERSIONS), *reversed(LEGACY_VERSIONS))
"""Newest first, as `server/discover` and -32022 list them."""

# Versions are ISO dates: string comparison orders them, `version >= V2025_06_18` reads as meant.


def is_modern(version: str) -> bool:
    """Whether requests of this version stand alone (2026-07-28 and whatever follows it)."""
    return version >= V2026_07_28
