"""What a token on every call costs: the same load on a server that does not look at it, on one that knows it, and on one that has never seen it.

All three run on one core, one after the other in each round. Signed tokens (RS256) are verified with a key from a file. Those that are new to the
server are more than it remembers, in turn.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from benchmarks.figures import WrongAnswer, calls_per_second, open_session
from benchmarks.machine import LOAD_CORE, MissingTool, check, cpu_seconds, describe, pinned
from benchmarks.servers import OURS, QUIET
from tools.report import between, table, today
from tools.served import ServerFailed, served
from trio_mcp.auth.token_cache import CACHED_TOKENS

ISSUER, RESOURCE = "https://login.example.com", "https://mcp.example.com/mcp"
SECONDS = 24 * 3600
NONE, KNOWN, NEW = "without authorization", "a token that is known", "tokens that are new"
WANTED = {KNOWN: "at least 0.95", NEW: "at least 0.75"}
ERAS = ("legacy", "modern")
WARM_UP_SECONDS = 1

Samples = dict[tuple[str, str], list[tuple[float, float]]]
"""By load and era: calls per second, and processor seconds of the server for each."""


class Tokens:
    """Signed tokens in files of one a line, and the key that verifies them."""

    def __init__(self, folder: Path, count: int = 2 * CACHED_TOKENS) -> None:
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key = folder / "key.pem"
        self.key.write_bytes(self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        self.known, self.new = folder / "known", folder / "new"
        self.first = self._signed(0)
        self.known.write_text(self.first + "\n")
        # Twice what is remembered, in turn: whichever comes was forgotten before.
        self.new.write_text("".join(self._signed(number) + "\n" for number in range(count)))

    def _signed(self, number: int) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": RESOURCE, "sub": "ann", "client_id": "bench", "scope": "mcp:read"}
        times = {"iat": now, "exp": now + SECONDS, "jti": f"{number}"}
        return jwt.encode({**claims, **times}, self._private, algorithm="RS256", headers={"typ": "at+jwt"})

    @property
    def settings(self) -> Mapping[str, str]:
        """What makes a server verify them."""
        return {
            "TRIO_MCP_AUTH_ISSUER": ISSUER,
            "TRIO_MCP_AUTH_RESOURCE": RESOURCE,
            "TRIO_MCP_AUTH_PUBLIC_KEY": str(self.key),
            "TRIO_MCP_AUTH_REQUIRED_SCOPES": "mcp:read",
        }


def sample(tokens: Tokens, seconds: int, into: Samples) -> None:
    """One round."""
    for name, settings, file in (
        (NONE, {}, tokens.known),
        (KNOWN, tokens.settings, tokens.known),
        (NEW, tokens.settings, tokens.new),
    ):
        for era in ERAS:
            with served(pinned(OURS), {**QUIET, **settings}) as node:
                session = open_session(node, {"Authorization": f"Bearer {tokens.first}"}) if era == "legacy" else None
                calls_per_second(node, WARM_UP_SECONDS, "add", session, warm_up=0, tokens=file)
                before = cpu_seconds(node.process.pid)
                rate = calls_per_second(node, seconds, "add", session, warm_up=0, tokens=file)
                cost = (cpu_seconds(node.process.pid) - before) / (rate * seconds)
            print(f"{name:30} {era:10} {rate:12,.1f}/s {1e6 * cost:8.1f} µs", flush=True)
            into[name, era].append((rate, cost))


def report(samples: Samples) -> str:
    """The medians, and what share of the calls without authorization one core can serve, by the processor time of each."""
    rows = []
    for name in (NONE, KNOWN, NEW):
        found = [samples[name, era] for era in ERAS]
        rates = [f"{statistics.median(rate for rate, _ in each):,.0f}" for each in found]
        costs = [f"{1e6 * statistics.median(cost for _, cost in each):.0f}" for each in found]
        shares = [f"{_share(each, samples[NONE, era]):.2f}" for each, era in zip(found, ERAS, strict=True)]
        rows.append([name, *rates, *costs, *shares, WANTED.get(name, "")])
    heads = (f"{era} {what}" for what in ("calls/s", "CPU µs", "share") for era in ERAS)
    return table(("each call with", *heads, "share wanted"), rows)


def _share(with_tokens: Iterable[tuple[float, float]], without: Iterable[tuple[float, float]]) -> float:
    """The median of the rounds, each of which is compared with itself."""
    return statistics.median(base / cost for (_, cost), (_, base) in zip(with_tokens, without, strict=True))


def main() -> int:
    """`python -m benchmarks.authorization`."""
    ask = argparse.ArgumentParser(
        prog="benchmarks.authorization", description="Measure what a token on each call costs."
    )
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--seconds", type=int, default=4, help="of load for each figure")
    ask.add_argument("--write", type=Path, help="put the table into this Markdown file")
    given = ask.parse_args()
    samples: Samples = defaultdict(list)
    try:
        check()
        with tempfile.TemporaryDirectory() as folder:
            tokens = Tokens(Path(folder))
            os.sched_setaffinity(0, {int(LOAD_CORE)})
            for _ in range(given.rounds):
                sample(tokens, given.seconds, samples)
    except (MissingTool, ServerFailed, WrongAnswer) as error:
        print(error, file=sys.stderr)
        return 1
    text = report(samples)
    print(f"\n{text}")
    if given.write:
        intro = f"`make bench` on {today()}: {describe()}; the median of {given.rounds} rounds of {given.seconds} s."
        between(given.write, "authorization", f"{intro}\n\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
