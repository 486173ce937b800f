"""What the specification asks of a server, and which test shows that this one does it.

A row has an id, where the specification says so, and what it says in short. Tests name rows by
`@pytest.mark.requirement("J7")`; `test_requirements.py` fails for a row without a test and for a mark without a row.
`python -m tests.requirements` prints the table with its tests.

Kinds of rows: duties (by letter and number), `auth-…` for authorization, `tasks-…` for tasks, `ws-…` for WebSocket, `gap-…` for what the official conformance suite
does not look at, and `weak-…` for what other servers get wrong although that suite is green.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REQUIREMENTS", "Requirement", "marked_tests"]

TESTS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Requirement:
    """One duty of a server."""

    id: str
    section: str
    """Version, page and anchor of the specification."""
    text: str

    @property
    def link(self) -> str:
        """The section on the web; others than the specification's stand as they are."""
        version, _, page = self.section.partition(" ")
        if not version[:4].isdigit():
            return self.section
        return f"https://modelcontextprotocol.io/specification/{version}/{page}"


def marked_tests() -> dict[str, list[str]]:
    """Id → the tests that carry its mark, read from the sources: nothing is run or imported."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text()
        if "mark.requirement(" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for row in _marks(node):
                    found[row].append(f"{path.relative_to(TESTS.parent)}::{node.name}")
    return found


def _marks(test: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    calls = [mark for mark in test.decorator_list if isinstance(mark, ast.Call)]
    ours = [call for call in calls if ast.unparse(call.func).endswith("mark.requirement")]
    return [ast.literal_eval(argument) for call in ours for argument in call.args]


_ROWS = """
J1   2025-11-25 basic                          | JSON-RPC 2.0 in UTF-8, else -32700
J2   2025-11-25 basic#requests                 | ids are strings or integers, never null
J3   2025-11-25 basic#requests                 | an id in flight is not taken again
J4   2025-11-25 basic#responses                | an answer carries its request's id, and a result or an error
J5   2025-11-25 basic#notifications            | a notification is never answered
J7   2025-03-26 basic#batching                 | batches must be received
J8   2025-03-26 basic/transports#sending-messages-to-the-server | what a batch is answered with
J9   2025-03-26 basic/lifecycle#initialization | initialize is never part of a batch
J10  2025-06-18 basic/transports#sending-messages-to-the-server | a POST is a single message
J11  2026-07-28 basic/patterns                 | clients send no responses
J13  2026-07-28 basic#_meta                    | trace context in _meta is passed on, never refused
ladder   2026-07-28 basic/transports/streamable-http#server-validation | what is checked before what
dual-era 2026-07-28 basic/versioning#backward-compatibility | both eras on one endpoint, decided by the body
L2   2025-11-25 basic/transports#sending-messages-to-the-server | Accept: JSON or a stream, else 406
L3   2025-11-25 basic/transports#sending-messages-to-the-server | Content-Type: JSON, else 415
L4   2025-11-25 basic/transports#sending-messages-to-the-server | 202 without a body
L5   2025-11-25 basic/transports#sending-messages-to-the-server | not accepted: an error without an id
L6   2025-11-25 basic/transports#sending-messages-to-the-server | a request is answered by JSON or a stream
L7   2025-11-25 basic/transports#sending-messages-to-the-server | messages before the answer relate to the request
L8   2025-11-25 basic/transports#sending-messages-to-the-server | the stream ends after the answer
L9   2025-11-25 basic/transports#sending-messages-to-the-server | only 2025-11-25 ends a stream before its answer
L10  2025-11-25 basic/transports#sending-messages-to-the-server | a priming event first
L11  2025-11-25 basic/transports#sending-messages-to-the-server | retry: before an early end
L12  2025-06-18 basic/transports#sending-messages-to-the-server | no priming event for older clients
L13  2025-11-25 basic/transports#sending-messages-to-the-server | a disconnect is no cancellation
L14  2025-11-25 basic/transports#listening-for-messages-from-the-server | GET opens a stream
L15  2025-11-25 basic/transports#listening-for-messages-from-the-server | it carries what no request caused
L16  2025-11-25 basic/transports#multiple-connections | a message goes on one stream only
L17  2025-11-25 basic/transports#multiple-connections | several streams at once
L18  2025-11-25 basic/transports#resumability-and-redelivery | event ids are unique in the session
L19  2025-11-25 basic/transports#resumability-and-redelivery | an event id names its stream
L20  2025-11-25 basic/transports#resumability-and-redelivery | replay of that stream alone
L21  2025-11-25 basic/transports#resumability-and-redelivery | an event id we never issued: 400
L23  2025-11-25 basic/transports               | comments keep a stream open
405  2025-11-25 basic/transports               | methods that are not served
S1   2025-11-25 basic/transports#session-management | the session id comes with InitializeResult and nowhere else
S2   2025-11-25 basic/transports#session-management | session ids are unique and random
S3   2025-11-25 basic/transports#session-management | session ids are visible ASCII
S4   2025-11-25 basic/transports#session-management | no session id: 400
S5   2025-11-25 basic/transports#session-management | a session that ended: 404
S6   2025-11-25 basic/transports#session-management | DELETE ends it
S7   2025-11-25 basic/transports#session-management | its streams end and its work is cancelled
S8   2025-11-25 basic/lifecycle#initialization | a session is initialized once
S9   2025-11-25 basic/transports#session-management | header names are case-insensitive
V1   2025-11-25 basic/transports#protocol-version-header | absent: the negotiated version
V2   2025-11-25 basic/transports#protocol-version-header | unsupported: 400
V3   2025-11-25 basic/transports#protocol-version-header | another supported one: the negotiated stands
V4   2025-11-25 basic/transports#protocol-version-header | on initialize: neither required nor refused
H2   2026-07-28 basic/transports/streamable-http | the body is one request or notification
H3   2026-07-28 basic/transports/streamable-http | a notification: 202, never acted on
H4   2026-07-28 basic/transports/streamable-http | a request: JSON or a stream
H5   2026-07-28 basic/transports/streamable-http | the stream has what relates to the request, then its answer
H6   2026-07-28 basic/transports/streamable-http | no requests to the client
H7   2026-07-28 basic/transports/streamable-http | X-Accel-Buffering: no
H8   2026-07-28 basic/transports/streamable-http | comments on long streams
H9   2026-07-28 basic/transports/streamable-http | nothing can be resumed
H10  2026-07-28 basic/transports/streamable-http | closing the stream is cancellation
H11  2026-07-28 basic/transports/streamable-http#protocol-version-header | the version stands in header and body
H12  2026-07-28 basic/transports/streamable-http#protocol-version-header | unsupported: -32022
H13  2026-07-28 basic/transports/streamable-http#protocol-version-header | unknown method: 404
H14  2026-07-28 basic/transports/streamable-http | GET and DELETE: 405; session headers are ignored
X1   2026-07-28 basic/transports/streamable-http#server-validation | Mcp-Method
X2   2026-07-28 basic/transports/streamable-http#server-validation | Mcp-Name
X3   2026-07-28 basic/transports/streamable-http#server-validation | header names in any case
X4   2026-07-28 basic/transports/streamable-http#server-validation | white space around values
X5   2026-07-28 basic/transports/streamable-http#server-validation | the base64 form of values
X6   2026-07-28 basic/transports/streamable-http#server-validation | characters no header may have
X7   2026-07-28 basic/transports/streamable-http#server-validation | header and argument are both there or both not
X8   2026-07-28 basic/transports/streamable-http#server-validation | integers are compared as numbers
X9   2026-07-28 basic/transports/streamable-http#server-validation | a header that comes twice
O1   2025-11-25 basic/transports#security-warning | Origin is checked on every request
O2   2025-11-25 basic/transports#security-warning | a foreign one: 403
O3   2025-11-25 basic/transports#security-warning | none: fine
O4   2025-11-25 basic/transports#security-warning | Host too, against DNS rebinding
I1   2025-11-25 basic/lifecycle#initialization | what initialize answers
I2   2025-11-25 basic/lifecycle#version-negotiation | version negotiation
I5   2025-11-25 basic/lifecycle#operation      | only what was negotiated is used
I6   2025-11-25 basic/lifecycle#capability-negotiation | capabilities are what is offered
I7   2025-11-25 basic/utilities/ping           | ping
I8   2025-11-25 basic/lifecycle#timeouts       | our requests time out, and the client is told
I9   2025-11-25 basic/lifecycle#shutdown       | closing the connection is shutdown
I10  2025-11-25 basic/lifecycle#operation      | a client is asked what it declared
P1   2026-07-28 basic#_meta                    | version and capabilities in every request
P2   2026-07-28 basic#_meta                    | clientInfo is optional
P3   2026-07-28 basic#_meta                    | serverInfo in every result
P4   2026-07-28 basic#_meta                    | resultType in every result
P5   2026-07-28 basic#statelessness            | nothing is remembered between requests
P6   2026-07-28 basic#error-codes              | -32021 names the capabilities that are required
P7   2026-07-28 server/discover                | server/discover
P8   2026-07-28 changelog                      | removed methods: 404
P9   2026-07-28 basic/versioning               | extensions are declared with their settings; without the client's declaration the core alone, or an error
P10  2026-07-28 server/tools                   | lists do not vary by connection
P11  2026-07-28 basic/authorization            | every request is authenticated
K1   2026-07-28 server/utilities/caching       | ttlMs and cacheScope
K2   2026-07-28 server/utilities/caching       | and only there
K3   2026-07-28 server/utilities/caching       | one scope for all pages
K4   2026-07-28 server/utilities/caching       | private where it may depend on the caller
R1   2026-07-28 basic/patterns/mrtr            | questions only in InputRequiredResult
R2   2026-07-28 basic/patterns/mrtr            | of tools/call, prompts/get and resources/read
R3   2026-07-28 basic/patterns/mrtr            | with questions or state
R4   2026-07-28 basic/patterns/mrtr            | questions by key
R5   2026-07-28 basic/patterns/mrtr            | none the client did not declare
R6   2026-07-28 basic/patterns/mrtr            | the retry stands alone
R7   2026-07-28 basic/patterns/mrtr            | a tampered state is refused
R8   2026-07-28 basic/patterns/mrtr            | the state is bound to request, caller and time
R10  2026-07-28 basic/patterns/mrtr            | answers are checked
R11  2026-07-28 basic/patterns/mrtr            | nothing is held for the retry
R12  2026-07-28 basic/patterns/mrtr            | decline and cancel
U1   2026-07-28 basic/patterns/subscriptions   | the filter
U2   2026-07-28 basic/patterns/subscriptions   | the acknowledgement is first
U3   2026-07-28 basic/patterns/subscriptions   | subscriptionId has the type of the request's id
U4   2026-07-28 basic/patterns/subscriptions   | only what was asked for
U5   2026-07-28 basic/patterns/subscriptions   | several at once
U6   2026-07-28 basic/patterns/subscriptions   | the client ends it
U7   2026-07-28 basic/patterns/subscriptions   | the server ends it with its result
U8   2026-07-28 basic/patterns/cancellation    | on stdio too
U9   2026-07-28 basic/patterns/subscriptions   | always a stream
U10  2026-07-28 basic/patterns/subscriptions   | changes are told
U11  2026-07-28 basic/patterns/subscriptions   | their number is bounded
C1   2025-11-25 basic/utilities/cancellation   | a cancelled request stops; what cannot be cancelled is ignored
C2   2025-11-25 basic/utilities/cancellation   | only one's own requests
G1   2025-11-25 basic/utilities/progress       | progress for a token, in its type
G2   2025-11-25 basic/utilities/progress       | progress only grows
G3   2025-11-25 basic/utilities/progress       | none after the answer
N3   2025-11-25 server/utilities/logging       | logging/setLevel
N4   2026-07-28 server/utilities/logging       | log messages only where asked for
N5   2026-07-28 server/utilities/logging       | an unknown level: -32602
Q1   2025-11-25 server/utilities/pagination    | cursors
Q2   2025-11-25 server/utilities/pagination    | an invalid one: -32602
W1   2025-11-25 server/utilities/completion    | completion/complete
W2   2025-11-25 server/utilities/completion    | a hundred values at most
W3   2025-11-25 server/utilities/completion    | its errors
T1   2025-11-25 server/tools#capabilities      | tools are declared, or do not exist
T2   2026-07-28 server/tools                   | one order
T8   2025-11-25 server/tools#output-schema     | results conform to the output schema
T9   2025-11-25 server/tools#structured-content | and stand in a text block too
T10  2025-11-25 server/tools#error-handling    | unknown tool: -32602
T11  2025-11-25 server/tools#error-handling    | malformed call: -32602
T12  2025-11-25 server/tools#error-handling    | arguments that do not fit
T14  2025-11-25 server/tools#tool-result       | content of the version
T16  2025-11-25 server/tools#list-changed-notification | list_changed
T17  2025-11-25 server/tools                   | titles and annotations
E2   2026-07-28 server/resources#error-handling | not found: -32002, since 2026-07-28 -32602
E3   2026-07-28 server/resources#error-handling | never empty contents instead
E7   2025-11-25 server/resources#subscriptions | subscriptions
E9   2025-11-25 server/resources               | fields of the version
F2   2025-11-25 server/prompts#error-handling  | unknown prompt or missing argument: -32602
EL1  2025-06-18 client/elicitation             | since 2025-06-18, by URL since 2025-11-25
EL2  2025-11-25 client/elicitation#capabilities | {} means forms
EL3  2025-11-25 client/elicitation             | flat forms; defaults since 2025-11-25
EL5  2025-11-25 client/elicitation#response-actions | accept, decline, cancel
EL6  2025-11-25 client/elicitation             | what comes back is checked
EL7  2025-11-25 client/elicitation             | url mode
EL8  2025-11-25 client/elicitation             | elicitationId
EL9  2026-07-28 changelog                      | no elicitationId any more
SA1  2025-11-25 client/sampling                | sampling where declared
SA2  2025-11-25 client/sampling                | messages and maxTokens
SA5  2025-11-25 client/sampling#error-handling | the client's errors
RO1  2025-11-25 client/roots                   | roots where declared
RQ1  SEP-2260                                  | questions ride on the stream of their request
IO1  2025-11-25 basic/transports#stdio         | one message a line, nothing else on stdout
IO2  2025-11-25 basic/transports#stdio         | stderr is free
IO3  2025-11-25 basic/lifecycle#stdio          | the end of stdin ends the process
IO4  2025-11-25 basic/lifecycle#stdio          | so do SIGTERM and a closed stdout
IO5  2025-03-26 basic/transports#stdio         | batches on 2025-03-26 only
IO6  2026-07-28 basic/transports/stdio         | _meta says it all
IO7  2026-07-28 basic/transports/stdio         | requests interleave
IO8  2026-07-28 basic/transports/stdio         | a cancelled request is answered with silence
IO9  2026-07-28 basic/versioning#backward-compatibility | both eras in one process
SB1  2025-11-25 basic/security_best_practices#session-hijacking | a session authenticates nobody
SB2  2025-11-25 basic/security_best_practices#session-hijacking | session ids are random and expire
SB3  2025-11-25 basic/security_best_practices#session-hijacking | sessions and states are bound to their user
SB5  2025-11-25 basic/security_best_practices#session-hijacking | so is replay

gap-fields-by-version     2025-03-26 basic                       | each version on the wire as it is, 2025-03-26 and 2025-06-18 too
gap-delete-and-get        2025-11-25 basic/transports#session-management | DELETE and GET beyond one path
gap-get-404               2025-11-25 basic/transports#session-management | unknown session on GET
gap-session-user-binding  2025-11-25 basic/security_best_practices#session-hijacking | whose a session is
gap-resource-not-found    2026-07-28 server/resources#error-handling | -32002 or -32602
gap-cursors               2025-11-25 server/utilities/pagination | cursors of ours and of others
gap-cancellation          2026-07-28 basic/patterns/cancellation | in both eras
gap-disconnect-safety     2025-11-25 basic/transports            | a disconnect cancels or not, by era
gap-event-id-uniqueness   2025-11-25 basic/transports#resumability-and-redelivery | over all streams of a session
gap-cross-stream-replay   2025-11-25 basic/transports#resumability-and-redelivery | never
gap-legacy-notifications  2025-11-25 server/resources#subscriptions | list_changed and updated on the GET stream
gap-listen-updates        2026-07-28 basic/patterns/subscriptions | updated and list_changed on listen streams
gap-graceful-listen-close 2026-07-28 basic/patterns/subscriptions | the result, then the end
gap-loglevel-filtering    2026-07-28 server/utilities/logging    | from the level that was asked for
gap-requeststate-binding  2026-07-28 basic/patterns/mrtr         | to method, target, arguments and principal
gap-requeststate-ttl      2026-07-28 basic/patterns/mrtr         | and to time
gap-outputschema          2025-11-25 server/tools#output-schema  | a result that breaks it never leaves
gap-keep-alives           2026-07-28 basic/transports/streamable-http | at once and every 15 s
gap-trace-context         2026-07-28 basic#_meta                 | reaches the handler
gap-discover-cache-hints  2026-07-28 server/discover             | ttlMs and cacheScope of server/discover
gap-method-matrix         2025-11-25 basic                       | a method exists in its versions only
gap-sse-head              2026-07-28 basic/transports/streamable-http | headers that keep proxies away from streams
gap-lifespan              ASGI lifespan                          | without it 503, and its failure is told

weak-batch                       2025-03-26 basic#batching      | a batch on 2025-03-26 is taken
weak-invalid-ids                 2025-11-25 basic#requests      | null and 1.5 are no ids, and no notifications
weak-minted-ids                  2025-11-25 basic/transports#session-management | errors mint no session
weak-unknown-tool                2025-11-25 server/tools#error-handling | -32602, in both eras
weak-unknown-prompt              2025-11-25 server/prompts#error-handling | -32602, in both eras
weak-invalid-cursor              2025-11-25 server/utilities/pagination | -32602, not the first page
weak-resource-not-found          2025-11-25 server/resources#error-handling | -32002 on legacy
weak-second-initialize           2025-11-25 basic/lifecycle#initialization | refused, and nothing changes
weak-requests-before-initialized 2025-11-25 basic/lifecycle#initialization | served: only the client must wait
weak-version-header              2025-11-25 basic/transports#protocol-version-header | the error names the header
weak-modern-without-header       2026-07-28 basic/transports/streamable-http#protocol-version-header | -32020
weak-supported-versions          2026-07-28 basic/versioning    | data.supported lists every version we serve
weak-delete                      2025-11-25 basic/transports#session-management | 204, then 404
weak-second-get                  2025-11-25 basic/transports#multiple-connections | takes the place of the first
weak-null-body-id                2025-11-25 basic#responses     | an unreadable id is left out, not null

auth-1   RFC 6750 §3.1                                 | without Authorization: 401, a challenge without error
auth-2   RFC 6750 §2.1                                 | another scheme (Basic, DPoP): the same
auth-3   RFC 9110 §11.1                                | the scheme has any case, and any number of spaces after it
auth-4   2025-11-25 basic/authorization#error-handling | a malformed header: 400 invalid_request
auth-5   RFC 6750 §2                                   | two Authorization headers, equal or not: 400
auth-6   2025-11-25 basic/authorization#token-requirements | a token in the query or in a form: none, and not logged
auth-7   2025-11-25 basic/authorization#token-handling | a good token: the caller and the token are what it says
auth-8   RFC 8725 §3.1                                 | alg none, in any case: refused
auth-9   RFC 8725 §2.1                                 | a public key used as a shared secret: refused
auth-10  RFC 7515 §5.2                                 | an unknown key under a known name, a changed byte: refused
auth-11  RFC 8725 §3.10                                | jku, x5u, jwk, x5c with a key of the attacker's: refused, nothing is fetched
auth-12  RFC 8725 §3.10                                | the same on a good token: accepted, nothing is fetched
auth-13  RFC 8725 §3.10                                | a kid that is a path, SQL, NUL, 10 kB, a list: refused, one fetch at most
auth-14  RFC 7515 §4.1.4                               | no kid: accepted only where one key fits
auth-15  RFC 7515 §4.1.11                              | crit, b64, zip, an encrypted token: refused
auth-16  2025-11-25 basic/authorization#token-handling | for another audience: refused
auth-17  2025-11-25 basic/authorization#canonical-server-uri | a trailing slash, upper case in scheme and host, a list: accepted
auth-18  RFC 8414 §2                                   | another issuer, even by a slash: refused
auth-19  RFC 7519 §4.1.4                               | exp: 30 s of leeway; missing or no number: refused
auth-20  RFC 7519 §4.1.5                               | nbf and iat: 30 s of leeway
auth-21  RFC 9068 §2.2                                 | sub missing: a machine; empty, or no client either: refused
auth-22  RFC 8725 §3.11                                | typ of another kind of token: refused; a type can be required
auth-23  RFC 9068 §2.2                                 | an ID token: refused
auth-24  RFC 9449 §7.2                                 | a token that is bound to a key, as a bearer token: refused
auth-25  RFC 8725 §2                                   | a token of more than 16 KiB or of deep nesting: refused unread
auth-26  RFC 7518 §3.3                                 | weak keys, keys for encryption, shared secrets in a key set: not used
auth-27  RFC 7517 §5                                   | entries that cannot be read, more than 50: the others count
auth-28  2025-11-25 basic/authorization                | no keys at the start: not ready, 503 without a challenge
auth-29  2025-11-25 basic/authorization                | an outage later: known keys count for 4 h, unknown ones are a 503
auth-30  2025-11-25 basic/authorization                | an issuer that hangs: known keys at once, unknown within 5 s, one connection
auth-31  RFC 7517 §4.5                                 | a new key: the first token passes, one fetch
auth-32  RFC 7517 §4.5                                 | a withdrawn key: refused, tokens verified before too
auth-33  RFC 8725 §3.10                                | a flood of unknown keys: six fetches a minute
auth-34  RFC 8414 §3.3                                 | metadata of another issuer, keys without TLS: no start, both are named
auth-35  2025-11-25 basic/authorization#runtime-insufficient-scope-errors | a scope that all requests need is missing: 403 with that scope
auth-36  2025-11-25 basic/authorization#runtime-insufficient-scope-errors | a scope of a component is missing: 403 with all that are needed
auth-37  2026-07-28 server/tools                       | lists show what only a scope stands against, and not what a role does
auth-38  2026-07-28 basic/authorization                | a scope includes others; scopes as string or list
auth-39  RFC 6749 §3.3                                 | scopes are compared whole and by case
auth-40  2025-11-25 basic/authorization#runtime-insufficient-scope-errors | the same for all kinds of components
auth-41  2025-11-25 basic/authorization#step-up-authorization-flow | a token with more scopes on the same session: served
auth-42  2025-11-25 basic/authorization#token-handling | one with fewer: refused
auth-43  2025-11-25 basic/security_best_practices#session-hijacking | a session of another caller is one that never was
auth-44  2025-11-25 basic/security_best_practices#session-hijacking | a session without a token: 401, whether it exists or not
auth-45  2025-03-26 basic#batching                     | a batch: all elements judged before any runs, one challenge
auth-46  2025-11-25 basic/security_best_practices#session-hijacking | answers and cancellations of another caller: 404
auth-47  2026-07-28 basic/patterns/mrtr | a retry is judged anew, and bound to its caller
auth-48  2025-11-25 basic/authorization#token-handling | a stream is resumed with the scopes of its call alone
auth-49  2025-11-25 basic/authorization#token-handling | a standing stream ends after its token has expired
auth-50  2026-07-28 basic/patterns/subscriptions         | a subscription likewise, with its result; the stream of a call runs to its end
auth-51  2025-11-25 basic/authorization#token-handling | streams that expire together end over ten seconds
auth-52  2025-11-25 basic/authorization#access-token-privilege-restriction | on another node: relayed, and judged by both
auth-53  2025-11-25 basic/authorization#access-token-privilege-restriction | on another node without a good token: refused there, the owner hears nothing
auth-54  2025-11-25 basic/authorization#token-handling | the owner refuses: its answer comes back unchanged
auth-55  2025-11-25 basic/authorization#access-token-privilege-restriction | a hop, forged or right, without a token: refused
auth-56  2025-11-25 basic/security_best_practices#session-hijacking | a hop with the token of another: 404
auth-57  2025-11-25 basic/security_best_practices#session-hijacking | a session is restored for its principal alone
auth-58  2025-11-25 basic/security_best_practices      | no token and no claim in the store
auth-59  2025-11-25 basic/security_best_practices      | no token and no claim in logs
auth-60  RFC 9728 §3                                   | the metadata: three paths, HEAD, OPTIONS from any origin, 405
auth-61  RFC 9728 §3                                   | the metadata needs no token, but the right Host, also while the node drains
auth-62  RFC 9728 §3.3                                 | the resource is the configured string, byte for byte
auth-63  RFC 9728 §3.3                                 | what proxies say of host and scheme changes no URL of ours
auth-64  RFC 9728 §3.1                                 | below a prefix in Starlette, the metadata is where the challenge says
auth-65  Fetch CORS                                    | a preflight needs no token, but an allowed origin
auth-66  Fetch CORS                                    | a page of an allowed origin can read the challenge
auth-67  RFC 7662 §2.2                                 | introspection: active is the boolean; aud, iss, exp are judged
auth-68  RFC 7662 §2.3                                 | introspection without a usable answer: 503, never a refusal
auth-69  RFC 7662 §4                                   | a revoked token: refused once the kept answer is 30 s old
auth-70  RFC 7662 §4                                   | a hundred requests with one token: one question
auth-71  RFC 6750 §5.2                                 | tokens from the configuration are compared in constant time
auth-72  RFC 9068 §4                                   | several verifiers: each token goes to who can verify it
auth-73  RFC 9068 §4                                   | one of them cannot tell and none accepts: 503
auth-74  2025-11-25 basic/authorization#error-handling | a fault of a verifier is no refusal
auth-75  2025-11-25 basic/authorization                | probes are open; the admin listener asks for its own token where it has one
auth-76  2025-11-25 basic/authorization#protocol-requirements | stdio: nothing is checked
auth-77  2025-11-25 basic/authorization | components that ask for scopes are not served where nothing verifies tokens
auth-78  2025-11-25 basic/authorization                | the clients people use: login, list, call, refresh, step-up where they can
auth-79  2025-11-25 basic/authorization                | trio-mcp login, list, call, logout: tokens kept for the owner alone, renewed once, exit code 3 with the scope that lacks
auth-80  trio-mcp docs/performance.md#tokens           | a token that is known is neither read nor verified again; what it costs is measured by `make bench`

tasks-1  ext-tasks: Capability Negotiation                 | declared as {} while a tool has task=; nothing else is said of tasks
tasks-2  SEP-2663: Backward Compatibility                  | in a session the extension is as if it were not declared: its calls run as others
tasks-3  ext-tasks: Task Creation                          | a quick call of a tool with task= is answered with its result, and recorded nowhere
tasks-4  ext-tasks: Task Creation                          | one that takes long becomes a task, with the result of the plain call
tasks-5  ext-tasks: Capability Negotiation                 | to a client that did not declare, an optional tool gives a plain result
tasks-6  ext-tasks: Required Capabilities                  | a tool that must be a task: -32021, HTTP 400, and its handler does not run
tasks-7  ext-tasks: Capability Negotiation                 | what another request declared proves nothing
tasks-8  SEP-2663: Removed                                 | params.task is ignored
tasks-9  ext-tasks: Task Creation                          | a task is found on every node as soon as its client knows of it
tasks-10 ext-tasks: Errors                                 | unknown, expired and foreign tasks: the same -32602
tasks-11 ext-tasks: Capability Negotiation                 | tasks/get, update and cancel of a client that did not declare: -32021 whatever the id is
tasks-12 ext-tasks: Routing Headers                        | Mcp-Name repeats the task's id, in its base64 form too: else -32020
tasks-13 ext-tasks: Removed Methods                        | tasks/result, tasks/list and what never existed are -32601, HTTP 404, before headers, _meta or anything else is checked
tasks-14 ext-tasks: Errors                                 | what can be no task's id: -32602, and no store is asked
tasks-15 ext-tasks: Task Results                           | a tool that fails or crashes: completed, with isError
tasks-16 ext-tasks: Task Results                           | an error of the protocol, the end of the ttl, the end of the server: failed, with the error and no result
tasks-17 ext-tasks: Task Status                            | progress becomes the status message; nothing is notified
tasks-18 ext-tasks: Input Required                         | questions at the same time are open at the same time, and each has its own answer
tasks-19 ext-tasks: tasks/update                           | answers for no open question are ignored; what are no answers: -32602
tasks-20 ext-tasks: Input Required                         | an answer that does not fit its form is seen by the tool, never a crash
tasks-21 ext-tasks: tasks/update                           | an answer to a task that was cancelled runs nothing
tasks-22 ext-tasks: tasks/update                           | another question under the author's same key has another key on the wire
tasks-23 ext-tasks: Composition with Multi Round-Trip Requests| questions before the task are rounds of its request; no requestState passes into the task
tasks-24 ext-tasks: Task Lifecycle                         | a client that leaves takes along what is no task yet, and nothing after that
tasks-25 ext-tasks: tasks/cancel                           | acknowledged, and cancelled within a second; what has ended stays as it is
tasks-26 ext-tasks: tasks/cancel                           | a handler that shields itself, and a sync function, end when they do; others are not affected
tasks-27 ext-tasks: Task Status Lifecycle                  | cancel and completion at the same time: one end, never two
tasks-28 ext-tasks: tasks/cancel                           | notifications/cancelled never means a task
tasks-29 ext-tasks: Notifications                          | a stream has the states of the caller's own tasks, as tasks/get says them
tasks-30 ext-tasks: Notifications                          | taskIds of a client that did not declare: -32021
tasks-31 ext-tasks: tasks/update                           | answered and cancelled by another node than the one that runs it, with and without the bus
tasks-32 ext-tasks: Task Creation                          | the node is killed: what may not run twice has failed, what is idempotent runs again, what waits goes on
tasks-33 ext-tasks: Task Status Lifecycle                  | a node that stood still finds its task taken: its result is refused, its copy cancelled
tasks-34 ext-tasks: Task Status Lifecycle                  | a rolling restart: what ends in its window completes, what waits or is idempotent completes elsewhere, the rest fails; none is unknown
tasks-35 ext-tasks: Task Polling                           | Redis away, full or emptied: where no task can be recorded, an ordinary call, or -32603; nothing is said to be unknown that is not; ends are written later
tasks-36 ext-tasks: Task Creation                          | more tasks than a node or a principal may have: an ordinary call, or -32603; the others are not affected
tasks-37 ext-tasks: Task Results                           | a result that is too large fails the task, and is logged
tasks-38 ext-tasks: Task Polling                           | more than twenty polls of one task in a second: 429 for the excess
tasks-39 ext-tasks: Task Polling                           | readable until its ttl is over; a running one is moved on before
tasks-40 ext-tasks: Task Polling                           | memory and Redis after 10,000 tasks: as before them, no key without a TTL
tasks-41 ext-tasks: Security Considerations                | Redis has no argument, question, answer, result or token in the clear
tasks-42 ext-tasks: Security Considerations                | two secrets in rotation: tasks made under either are read
tasks-43 2026-07-28 basic/transports/stdio                | tasks over stdio end with stdin, and the process does not wait for them
tasks-44 ext-tasks                                     | the suite's nine scenarios, on both fronts and on three nodes in turn
tasks-45 ext-tasks: the requesters people use                 | FastMCP's client and @modelcontextprotocol/ext-tasks get the result of the plain call, a question in the middle too
tasks-46 2026-07-28 basic                                  | a task whose client cannot be asked fails with -32021, as the plain call does
tasks-47 ext-tasks: Task Polling                           | Redis away: another node than the owner says that it cannot tell
tasks-48 ext-tasks: Task Polling                           | a tool of 2 s and a question answered at once take their user less than 3 s each

ws-1     2025-11-25 basic/transports#custom-transports | the clients people use do over WebSocket what they do over HTTP
ws-2     RFC 6455 §4.2.1                               | a handshake that is not as it must be: 400, or 426 with the version; no hang
ws-3     2025-11-25 basic/transports#security-warning  | Host and Origin are checked before the 101: 421, 403
ws-4     2025-11-25 basic/transports#security-warning  | an allowed Origin, or none: 101
ws-5     RFC 6750 §2.1                                 | a token in a header or a subprotocol; 401 before the 101, 1008 when it has expired
ws-6     RFC 6455 §4.2.2                               | the subprotocol mcp must be offered, and is chosen
ws-7     RFC 9110 §4.2.3                               | the paths are those of HTTP; probes answer as without Upgrade
ws-8     RFC 6455 §4.1                                 | a frame in the segment of the head is answered at once
ws-9     RFC 9110 §15.5.9                              | a head that trickles: 408
ws-10    RFC 6455 §9.1                                 | no extension is accepted; clients that offer one are served
ws-11    RFC 6455 §7.4.1                               | a message beyond the bound, in bytes: 1009
ws-12    RFC 6455 §7.4.1                               | a frame that claims more than the bound: 1009 before its payload is read
ws-13    RFC 6455 §5.4                                 | fragments are joined, with control frames between; their number is bounded
ws-14    RFC 6455 §7.1.7                               | frames that break the protocol: 1002, 1003 or 1007, each with a close frame
ws-15    RFC 6455 §5.4                                 | fragments out of order: 1002
ws-16    2025-11-25 basic#messages                     | what is no JSON, or more than one message: -32700, and the connection goes on
ws-17    2025-03-26 basic#batching                     | a batch is answered with a batch in 2025-03-26, else -32600
ws-18    2025-11-25 basic/lifecycle                    | before initialize -32602, a second one -32600
ws-19    2026-07-28 basic/transports#custom-transports | both eras on one connection, message by message
ws-20    2026-07-28 basic/utilities/cancellation       | a cancelled call is answered with silence
ws-21    2026-07-28 basic/patterns/subscriptions       | a subscription tells of changes, and ends with its connection
ws-22    2025-11-25 basic#responses                    | a reply that nobody waits for is ignored
ws-23    2025-11-25 basic#requests                     | an id in flight is not taken again: -32600
ws-24    2025-11-25 basic/transports#custom-transports | more calls than may run: -32600, the others finish
ws-25    RFC 6455 §7.1.7                               | a client that stops reading costs others nothing, and is gone after the write timeout
ws-26    RFC 6455 §7.1.7                               | a client that reads slowly lives while it makes progress
ws-27    RFC 6455 §5.5.2                               | pings are answered without growth; one that answers none is gone
ws-28    RFC 6455 §5.5.3                               | while a large answer is on its way, pings wait for it and nobody is given up
ws-29    RFC 6455 §5.5.1                               | a close is echoed; a loss is noticed at once
ws-30    RFC 6455 §7.1.1                               | a close that crosses a large message leaves no error
ws-31    RFC 6455 §7.4.1                               | a handler that crashes costs its call, a hook that crashes the connection: 1011
ws-32    RFC 9110 §15.6.4                              | too many connections or sessions: 503 with Retry-After
ws-33    RFC 6455 §7.4.1                               | a drain: no new ones, each ends with 1001 when its calls are answered, evenly
ws-35    RFC 9110 §7.8                                 | through Traefik: a cookie keeps a client on its node; drain, death and restart end connections, and new ones work
ws-34    RFC 6455 §7.1.5                               | a second stop signal ends the process at once
ws-36    2025-11-25 basic/transports#session-management | no HTTP request names the session of a connection, on any node
ws-37    RFC 8441 §5                                   | Hypercorn, TLS and HTTP/2 serve the same
ws-38    RFC 9110 §15.6.4                              | mounted without its lifespan: 503, as over HTTP
ws-39    RFC 9110 §7.8                                 | the feature is off: a handshake is the GET that it is
ws-40    RFC 6455 §5.5.2                               | connections that say nothing cost memory that is stated, and next to no CPU
ws-41    RFC 6455 §10.7                                | made-up frames: every end has a close frame or a reset, and no error
"""


def _row(line: str) -> Requirement:
    place, _, text = line.partition("|")
    name, _, section = place.partition(" ")
    return Requirement(name, section.strip(), text.strip())


REQUIREMENTS: dict[str, Requirement] = {row.id: row for line in _ROWS.splitlines() if line for row in [_row(line)]}


def main() -> None:
    """Print the table in Markdown."""
    tests = marked_tests()
    print("| id | what | where | tests |\n|---|---|---|---|")
    for row in REQUIREMENTS.values():
        print(f"| {row.id} | {row.text} | {row.link} | {'<br>'.join(tests.get(row.id, []))} |")


if __name__ == "__main__":
    main()
