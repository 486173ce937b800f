"""The account of a node: what counts, what is dropped first when it is full, and what waits."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_mcp.streams.account import BODY_WAIT_SECONDS, CALL_WAIT_SECONDS, TICK_SECONDS, Account, NoRoom
from trio_mcp.streams.budget import Budget
from trio_mcp.streams.event_log import EventLog
from trio_mcp.streams.relief import COME_BACK_SECONDS, OBSERVE_SECONDS
from trio_mcp.streams.transfers import Transfer

KIB = 1024
WEIGHT = 200
"""Of an entry besides its message."""


def read(log: EventLog) -> None:
    reader = log.open_reader()
    for entry in reader.take():
        reader.wrote(entry)
    reader.leave()


def ended(account: Account, size: int) -> EventLog:
    log = EventLog(Budget(account=account), expected=1)
    log.append(b"x" * size)
    log.end()
    return log


class FakeHolder:
    def __init__(self, unread: int, unfinished: int = 0) -> None:
        self.unread = unread
        self.unfinished = unfinished


# What counts


async def test_everything_that_is_given_back_is_counted_no_more() -> None:
    account = Account()
    log = ended(account, 1000)
    assert account.used == 1000 + WEIGHT
    read(log)
    log.forget_read()
    assert account.used == 0
    with account.hold(7), account.transfer(5):
        assert account.used == 12
    assert account.used == 0


async def test_a_log_that_keeps_no_replays_gives_back_what_was_read_at_once() -> None:
    account = Account()
    log = EventLog(Budget(account=account), expected=1, replays=False)
    log.append(b"x" * 1000)
    read(log)
    assert account.used == 0


async def test_answers_that_are_read_are_bounded_by_the_account_and_not_by_the_stream() -> None:
    log = EventLog(Budget(limit=100), max_bytes=100, max_events=3)
    reader = log.open_reader()
    for _ in range(50):
        log.append(b"x" * 1000)
    assert len(reader.take()) == 50


# Replays


async def test_replays_go_first_those_delivered_longest_ago() -> None:
    account = Account(10_000)
    first, second, third = (ended(account, 2_000) for _ in range(3))
    for log in (second, first, third):
        read(log)
    account.charge(5_000)
    assert [bool(log.newest) for log in (first, second, third)] == [True, False, True]
    account.charge(2_000)
    assert [bool(log.newest) for log in (first, second, third)] == [False, False, True]
    assert not account.short


async def test_what_was_not_read_is_no_replay() -> None:
    account = Account(10_000)
    log = ended(account, 6_000)
    account.charge(6_000)
    assert log.newest
    assert account.short


# Who may


@pytest.mark.parametrize(
    ("used", "held", "size", "taken"),
    [
        (0, 0, 250, True),
        (0, 0, 251, False),
        (0, 250, 250, True),
        (0, 300, 201, False),
        (1_000, 0, 250, True),
        (1_750, 0, 250, True),
        (1_751, 0, 250, False),
    ],
)
def test_an_answer_is_taken_up_to_a_quarter_and_with_others_up_to_twice_what_may_wait(
    used: int, held: int, size: int, taken: bool
) -> None:
    account = Account(1_000)
    account.charge(used)
    assert account.has_room_for_answer(size, FakeHolder(held)) is taken


# Waiting


@pytest.fixture
async def account(nursery: trio.Nursery) -> Account:
    account = Account(100 * KIB)
    nursery.start_soon(account.relieve)
    return account


async def test_calls_wait_while_there_is_no_room_and_start_in_their_order(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    started: list[int] = []

    async def call(number: int) -> None:
        assert not account.may_start_call(None)
        await account.wait_to_start_call(None)
        started.append(number)

    account.charge(101 * KIB)
    for number in range(3):
        nursery.start_soon(call, number)
        await wait_all_tasks_blocked()
    await trio.sleep(10)
    assert started == []
    account.release(50 * KIB)
    await trio.sleep(1)
    assert started == [0, 1, 2]
    assert account.may_start_call(None)


async def test_a_call_waits_no_longer_than_its_client_does(account: Account, autojump_clock: MockClock) -> None:
    account.charge(101 * KIB)
    began = trio.current_time()
    with pytest.raises(NoRoom):
        await account.wait_to_start_call(None)
    assert trio.current_time() - began == CALL_WAIT_SECONDS


async def test_who_holds_a_quarter_waits_and_nobody_with_them(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    greedy = FakeHolder(25 * KIB)
    assert not account.may_start_call(greedy)
    assert account.may_start_call(FakeHolder(0))
    done = trio.Event()

    async def call() -> None:
        await account.wait_to_start_call(greedy)
        done.set()

    nursery.start_soon(call)
    await trio.sleep(5)
    assert not done.is_set()
    greedy.unread = 0
    await trio.sleep(1)
    assert done.is_set()


async def test_one_line_tells_of_a_shortage_however_many_wait(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        account.charge(101 * KIB)
        for _ in range(20):
            nursery.start_soon(account.wait_to_start_call, None)
        await trio.sleep(5)
        account.release(101 * KIB)
        await trio.sleep(5)
    assert [record.message for record in caplog.records] == ["memory is short: new calls and bodies wait"] * 2


async def test_a_node_that_comes_and_goes_across_its_limit_does_not_fill_the_log(
    account: Account, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(19):
        account.charge(101 * KIB)
        await trio.sleep(0.5)
        account.release(101 * KIB)
        await trio.sleep(0.5)
    assert len(caplog.records) == 2


async def test_calls_do_not_wait_for_room_that_they_hold_themselves(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ended: list[int] = []

    async def call(number: int) -> None:
        account.charge_request(30 * KIB)
        if not account.may_start_call(None):
            await account.wait_to_start_call(None)
        assert account.has_room_for_answer(20 * KIB, None)
        account.release_request(30 * KIB)
        ended.append(number)

    account.charge(101 * KIB)
    for number in range(20):
        nursery.start_soon(call, number)
    await wait_all_tasks_blocked()
    assert ended == []
    account.release(101 * KIB)
    assert account.used > 5 * account.limit
    await trio.sleep(1)
    assert sorted(ended) == list(range(20))
    assert account.used == 0


async def test_the_calls_of_a_batch_do_not_wait_for_its_answers(account: Account, autojump_clock: MockClock) -> None:
    budgets = [Budget(account=account) for _ in range(8)]
    for budget in budgets:
        for _ in range(2):
            assert account.may_start_call(budget)
            assert account.has_room_for_answer(12 * KIB, budget)
            budget.add_unfinished(12 * KIB)
    assert account.used > account.limit
    assert account.may_start_call(budgets[0]), "only its calls complete a batch"
    assert not account.has_room_for_answer(12 * KIB, budgets[0]), "there is an end to it all the same"
    for budget in budgets:
        budget.remove_unfinished(24 * KIB)
    assert account.used == 0
    budgets[0].add_unfinished(40 * KIB)
    assert not account.has_room_for_answer(12 * KIB, budgets[0]), "twice its share for one client"
    assert account.has_room_for_answer(12 * KIB, budgets[1])


async def test_another_server_makes_room_when_the_one_that_did_has_ended(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    other = trio.CancelScope()
    second = Account(KIB)

    async def server() -> None:
        with other:
            await second.relieve()

    nursery.start_soon(server)
    await wait_all_tasks_blocked()
    nursery.start_soon(second.relieve)
    await wait_all_tasks_blocked()
    other.cancel()
    second.charge(2 * KIB)
    nursery.start_soon(second.wait_to_start_call, None)
    await trio.sleep(1)
    second.release(2 * KIB)
    await trio.sleep(1)
    assert second.may_start_call(None)


# Bodies


async def test_bodies_share_a_quarter_and_small_ones_go_first(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    read_in: list[int] = []

    async def body(size: int) -> None:
        await account.room_for_body(size)
        with account.receiving(size):
            read_in.append(size)
            await trio.sleep(1)

    for size in (20, 12, 4, 9):
        nursery.start_soon(body, size * KIB)
        await wait_all_tasks_blocked()
    assert read_in == [20 * KIB, 4 * KIB]
    await trio.sleep(5)
    assert read_in == [20 * KIB, 4 * KIB, 9 * KIB, 12 * KIB]
    assert account.may_start_call(None)


async def test_a_body_waits_for_half_a_minute(account: Account, autojump_clock: MockClock) -> None:
    account.charge(101 * KIB)
    began = trio.current_time()
    with pytest.raises(NoRoom):
        await account.room_for_body(1)
    assert trio.current_time() - began == BODY_WAIT_SECONDS


async def test_what_is_here_of_bodies_that_wait_has_a_bound_and_the_largest_are_given_up(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    given_up: list[int] = []

    async def body(size: int) -> None:
        try:
            await account.room_for_body(size, 2 * KIB)
        except NoRoom:
            given_up.append(size)

    with account.receiving(25 * KIB):
        for size in (500, 100, 200, 300, 400, *[50] * 20):
            nursery.start_soon(body, size * KIB)
            await wait_all_tasks_blocked()
            assert account.used <= 25 * KIB + account.share
        assert given_up == [size * KIB for size in (500, 400, 300, 200, 100, *[50] * 8)]
        assert account.may_start_call(None)
    await trio.sleep(1)
    assert account.used == 0


@pytest.mark.parametrize(
    "a_second",
    [lambda left: 5 * KIB, lambda left: left * 0.06],
    ids=["just above what is slow", "a part of what is left"],
)
async def test_a_sender_that_takes_too_long_makes_way_for_a_body_that_waits(
    nursery: trio.Nursery, autojump_clock: MockClock, a_second: Callable[[int], float]
) -> None:
    size = 1024 * KIB
    account = Account(16 * size)
    ended: list[str] = []
    late_read = trio.Event()

    async def send(name: str, a_second: Callable[[int], float]) -> None:
        await account.room_for_body(size)
        left = size
        with account.receiving(size) as transfer:
            while left > 0:
                # So small that it does not matter which comes first, a piece or a look.
                await trio.sleep(0.1)
                count = int(a_second(left) / 10) + 1
                transfer.progress(count)
                left -= count
        ended.append(f"{name} {'cut' if transfer.cut else 'read'}")
        if name == "late":
            late_read.set()

    nursery.start_soon(account.relieve)
    for _ in range(3):
        nursery.start_soon(send, "hoarder", a_second)
    nursery.start_soon(send, "steady", lambda left: size / 10)
    await wait_all_tasks_blocked()
    nursery.start_soon(send, "late", lambda left: size)
    with trio.fail_after(BODY_WAIT_SECONDS / 2):
        await late_read.wait()
    assert ended == ["hoarder cut", "late read"]
    await trio.sleep(10)
    assert ended == ["hoarder cut", "late read", "steady read"], "nobody else waits"


async def test_a_new_body_overtakes_none_that_is_as_small(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    order: list[str] = []

    async def body(name: str, size: int) -> None:
        await account.room_for_body(size)
        with account.receiving(size):
            order.append(name)
            await trio.sleep(1)

    with account.receiving(12 * KIB):
        nursery.start_soon(body, "first", 14 * KIB)
        await wait_all_tasks_blocked()
        with account.receiving(KIB):
            nursery.start_soon(body, "small", 12 * KIB)
            await wait_all_tasks_blocked()
            assert order == ["small"]
    nursery.start_soon(body, "as large", 14 * KIB)
    await wait_all_tasks_blocked()
    assert order == ["small"]
    await trio.sleep(5)
    assert order == ["small", "first", "as large"]


async def test_many_small_bodies_do_not_wait_for_a_look_each(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    read_in: list[int] = []

    async def body(number: int) -> None:
        await account.room_for_body(KIB)
        with account.receiving(KIB):
            read_in.append(number)
            await trio.sleep(1)

    with account.receiving(25 * KIB):
        for number in range(25):
            nursery.start_soon(body, number)
        await wait_all_tasks_blocked()
    await trio.sleep(0.1)
    assert len(read_in) == 25


async def test_the_first_body_is_read_whatever_its_size(account: Account) -> None:
    await account.room_for_body(account.limit)


# Relief


async def test_a_peer_that_takes_nothing_is_cut_when_there_is_no_room_and_one_that_reads_is_not(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    cut: list[str] = []

    async def write(name: str, rate: int) -> None:
        with account.transfer(60 * KIB) as transfer:
            for _ in range(100):
                await trio.sleep(1)
                transfer.progress(rate)
        if transfer.cut:
            cut.append(name)

    nursery.start_soon(write, "stalled", 0)
    await trio.sleep(20)
    assert cut == [], "there is room"
    nursery.start_soon(write, "reads", 10 * KIB)
    await trio.sleep(OBSERVE_SECONDS - 1)
    assert cut == []
    await trio.sleep(2)
    assert cut == ["stalled"]
    await trio.sleep(50)
    assert cut == ["stalled"]


async def test_as_few_slow_readers_are_cut_as_are_in_the_way(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    transfers: list[Transfer] = []

    async def read_slowly() -> None:
        # A long answer is written in pieces; the rest of it goes with its reader.
        with account.hold(20 * KIB), account.transfer(KIB) as transfer:
            transfers.append(transfer)
            await trio.sleep_forever()

    for _ in range(5):
        nursery.start_soon(read_slowly)
    await trio.sleep(2 * OBSERVE_SECONDS)
    assert [transfer.cut for transfer in transfers].count(True) == 1


async def test_of_many_slow_readers_that_are_in_the_way_twice_as_many_are_cut_with_each_look(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    transfers: list[Transfer] = []

    async def read_slowly() -> None:
        # The piece that is written is small, so that it does not show how much a cut would free.
        with account.hold(10 * KIB), account.transfer(KIB // 16) as transfer:
            transfers.append(transfer)
            await trio.sleep_forever()

    for _ in range(40):
        nursery.start_soon(read_slowly)
    await wait_all_tasks_blocked()
    began = trio.current_time()
    while account.used > account.limit:  # noqa: ASYNC110
        await trio.sleep(TICK_SECONDS)
    # 1, 2, 4, 8, 16: five looks, of which the first is when they have been watched for long enough.
    assert trio.current_time() - began <= OBSERVE_SECONDS + 6 * TICK_SECONDS


async def test_an_early_burst_excuses_no_later_rest(
    account: Account, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def write() -> None:
        with account.transfer(110 * KIB) as transfer:
            await trio.sleep(1)
            transfer.progress(1024 * KIB)
            await trio.sleep(1_000)
        assert transfer.cut

    with trio.fail_after(2 * OBSERVE_SECONDS + 1):
        await write()


async def test_answers_that_nobody_reads_go_with_their_session_when_there_is_no_room(
    account: Account, autojump_clock: MockClock
) -> None:
    gone = trio.Event()
    log = EventLog(Budget(account=account, give_up=gone.set))
    reader = log.open_reader()
    log.append(b"x" * 101 * KIB)
    await trio.sleep(2 * COME_BACK_SECONDS)
    assert not gone.is_set(), "somebody reads it"
    reader.leave()
    await trio.sleep(COME_BACK_SECONDS - 1)
    assert not gone.is_set()
    log.open_reader().leave()
    await trio.sleep(COME_BACK_SECONDS - 1)
    assert not gone.is_set(), "the client came back meanwhile"
    await trio.sleep(2)
    assert gone.is_set()
