"""How long each step of a stop may take: the timeline of SIGTERM, and every constant on it. All in seconds.

 signal, POST /drain ──┐
                       ▼
 DRAINING              │ drain delay (setting; 3 with Redis, else 0): serves as before, /readyz is 503
                       ▼
 CLOSING or LEAVING    │ drain window (setting, 25)
                       │  ├─ listen streams, relayed streams: end evenly over all but the last LAST_STREAMS_SECONDS
                       │  ├─ sessions, where peers restore: handed over evenly over the same time (below)
                       │  ├─ GET streams, where no peer restores: end evenly within the last LAST_STREAMS_SECONDS
                       │  ├─ tasks: those that wait are parked, idempotent ones released TASK_RELEASE_SECONDS before the end of theirs
                       │  └─ ends early when nothing is left; with a ready peer not before BALANCER_SECONDS
                       ▼
                       │ LAST_CALLS_SECONDS: sessions close when no call of theirs runs; for calls that have just begun
                       ▼
                       │ task window (setting, the same), where it is longer: sessions have ended, tasks may go on
                       ▼
                       │ CUT_ANSWERS_SECONDS, without peers ALONE_SECONDS more: what still runs is cancelled, its error is sent
                       ▼
 STOPPING              │ CONNECTIONS_SECONDS: ports are closed, connections end
                       ▼
 STOPPED               │ cleanup (setting, 5): the user's lifespan and mounted apps
                       ▼
                       │ CLUSTER_FLUSH_SECONDS: writes that are owed go to Redis, the node's card is removed
                       ▼
                     exit

The process ends by force when a step exceeds its time (`serving/last_resort`): from the signal `StopTimes.whole`, then, as each step
begins, CANCELLED_CALLS_SECONDS for the calls that were cancelled (without peers ALONE_SECONDS more), the cleanup time and NOTICE_SECONDS
for the cleanup, and CLUSTER_EXIT_SECONDS more with peers. `tests/deploy/test_margins` checks that the steps fit into MARGIN_SECONDS.

What becomes of an open stream (no stream ends in the drain delay):

 a session's standalone stream, which a GET without `Last-Event-ID` reads
   no `--restore` ────────▶ `drain._stream_enders`: `Reader.close` in the last LAST_STREAMS_SECONDS; ends with a `retry:` (±25 %)
   `--restore`, a peer ready ▶ with its session, evenly over the window: `handover`, `Cluster.release`, `LiveSession.hand_off`; `retry:`
   otherwise, or left over ─▶ with its session when the window is over: `SessionStreams.close`; no `retry:`
 a stream of a call: its POST's, or a GET that resumes it with `Last-Event-ID`
   ───────────────────────▶ with the call's answer; one that is handed over with its session gets a `retry:`. A call that still runs in
                            the end is cancelled, and its error is the last event
 a listen stream ─────────▶ `drain._listen_enders`: its result, evenly over the window
 relayed from a peer
   can be resumed ────────▶ `Cluster.relayed_stream_enders`: evenly over the window; `retry:` (`RelayedRequest._end`)
   cannot ────────────────▶ when the window is over: `Cluster.end_relays`, an error, or a listen stream's result, as the last event
   from a worker that ends at the same time
   ───────────────────────▶ with the call there, whose error is passed on; else after half of CUT_ANSWERS_SECONDS, as above

Handing over one session, in the drain window:

 at rest ─────────────▶ released to the peers at once; with an open GET stream one after the other
 calls overlap ───────▶ after REST_SECONDS new calls are paused, PAUSE_SECONDS at first, doubling to MOST_PAUSE_SECONDS
 an unread answer ────▶ its client has FETCH_SECONDS to come for it
 not released ────────▶ again after RETRY_SECONDS
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ALONE_SECONDS",
    "BALANCER_SECONDS",
    "CANCELLED_CALLS_SECONDS",
    "CLOSING_RELEASE_SECONDS",
    "CLUSTER_EXIT_SECONDS",
    "CLUSTER_FLUSH_SECONDS",
    "CONNECTIONS_SECONDS",
    "CUT_ANSWERS_SECONDS",
    "FETCH_SECONDS",
    "INTERACTIVE_WINDOW_SECONDS",
    "LAST_CALLS_SECONDS",
    "LAST_STREAMS_SECONDS",
    "MARGIN_SECONDS",
    "MOST_PAUSE_SECONDS",
    "MOUNTED_APP_SECONDS",
    "NOTICE_SECONDS",
    "PAUSE_SECONDS",
    "POLL_SECONDS",
    "RELEASE_SECONDS",
    "REST_SECONDS",
    "RETRY_SECONDS",
    "STDIO_CALLS_SECONDS",
    "STDIO_LAST_ANSWERS_SECONDS",
    "TASK_RELEASE_SECONDS",
    "StopTimes",
]

# The drain window.

INTERACTIVE_WINDOW_SECONDS = 1.0
"""The window after Ctrl+C on a terminal, where a person waits for the prompt."""

LAST_STREAMS_SECONDS = 2.0
"""GET streams of sessions that no peer restores end this late, for their clients come straight back."""

BALANCER_SECONDS = 3.0
"""A node with a ready peer answers 503 on `/livez` at least this long before its port closes: balancers look every second."""

POLL_SECONDS = 0.1
"""Between two looks at what has no event for its end: a call whose client has left, an answer that is fetched."""

# Handing over a session.

REST_SECONDS = 5.0
"""A session that has always had a call in flight for this long has its calls paused, unless one of them is older than that."""

PAUSE_SECONDS, MOST_PAUSE_SECONDS = 1.0, 8.0
"""How long calls are paused at first, and at most; less than a paused call waits (`sessions.calls.PAUSE_SECONDS`)."""

FETCH_SECONDS = 4.0
"""Four times what a client that was cut off waits before it comes for its answer, which no other node has."""

RETRY_SECONDS = 1.0
"""Between two attempts to release a session."""

RELEASE_SECONDS = 1.5
"""How long a request waits for its session to be released; Redis takes a second at most."""

CLOSING_RELEASE_SECONDS = 0.3
"""The same for a session that is closed as the node ends, which is near."""

# Tasks (`serving/task_handover`): those that wait for their client leave when the window begins.

TASK_RELEASE_SECONDS = 1.0
"""Before their window ends, idempotent tasks are left to other nodes: for the writes to Redis."""

# The end.

LAST_CALLS_SECONDS = 0.5
"""For calls that had only just begun when the window ended: their sessions were there when their clients sent them."""

CUT_ANSWERS_SECONDS = 0.5
"""For the errors of cancelled calls to reach their clients."""

CONNECTIONS_SECONDS = 0.2
"""For connections to close once their exchanges have ended."""

CANCELLED_CALLS_SECONDS = 0.8
"""From the cancellation of calls until they have ended: CUT_ANSWERS_SECONDS, CONNECTIONS_SECONDS, and the cleanups of handlers."""

NOTICE_SECONDS = 0.3
"""For code that is cancelled to notice."""

MOUNTED_APP_SECONDS = 5.0
"""For a mounted app to answer `lifespan.shutdown`."""

CLUSTER_FLUSH_SECONDS = 0.5
"""For the writes to Redis that are still owed; what is lost of them expires there."""

CLUSTER_EXIT_SECONDS = 1.2
"""With peers, after the cleanup: CLUSTER_FLUSH_SECONDS, and the end of the thread that listens to Redis."""

ALONE_SECONDS = CLUSTER_EXIT_SECONDS
"""Without peers the same time is for the answers of cancelled calls: a busy machine may need it."""

MARGIN_SECONDS = 2.5
"""What a stop may take beside the delay, the drain window and the cleanup."""

# stdio: it has no drain, for the client that ends the process has no other.

STDIO_CALLS_SECONDS = 1.5
"""From the end of stdin, or a signal, until the calls have ended, whatever refuses to stop."""

STDIO_LAST_ANSWERS_SECONDS = 1.0
"""From the end of stdin until the answers to what was read before it must be written."""


@dataclass(frozen=True, slots=True)
class StopTimes:
    """The parts of a stop that are settings, in seconds."""

    delay: float
    window: float
    cleanup: float
    tasks: float = 0.0
    """The window of tasks, from the same moment as that of calls; it is never shorter than that."""

    @property
    def whole(self) -> float:
        """From being asked to stop to the end of the process, at most."""
        return self.delay + max(self.window, self.tasks) + self.cleanup + MARGIN_SECONDS
