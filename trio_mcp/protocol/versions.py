"""The protocol versions that are served, and which of them have sessions."""

V2024_11_05 = "2024-11-05"
V2025_03_26 = "2025-03-26"
V2025_06_18 = "2025-06-18"
V2025_11_25 = "2025-11-25"
V2026_07_28 = "2026-07-28"

LEGACY_VERSIONS = (V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25)
"""With sessions, oldest first. 2024-11-05 is served over streamable HTTP and stdio, not over its own HTTP+SSE transport."""

LATEST_LEGACY = LEGACY_VERSIONS[-1]

MODERN_VERSIONS = (V2026_07_28,)
"""Without sessions: every request carries all it needs."""

SERVED_VERSIONS = (*reversed(MODERN_VERSIONS), *reversed(LEGACY_VERSIONS))
"""Newest first, as `server/discover` and -32022 list them."""

# Versions are ISO dates, so comparing them as strings orders them: `version >= V2025_06_18`.
