"""A line to the server: one connection, on which the calls of many tasks share round trips.

Why: a round trip for every append would bound a process to a few thousand a second. While the answers to one batch are
on their way, the next one gathers; a lone call goes at once.

Laws kept here:
7. The connection ends with the line's task.
9. A call happens whole or not at all, whatever becomes of its caller. When a connection breaks, every call that has no
   answer is sent again, marked as sent before, and the script finds what it did; after `2 * timeout_s` the caller is
   told. Only then is a call's fate unknown, and the error says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from . import redis_scripts
from .errors import StoreUnavailable
from .redis_scripts import Script
from .redis_server import UNREACHED, Elsewhere, Server, hang_up, passing
from .redis_session import Session

BATCH = 500
"""Calls in one batch at most."""

BATCH_BYTES = 4 * 1024
"""What a batch may weigh before it takes no more calls, bytes.

A server that has read a batch answers all of it before it hears anybody else: an API beside a busy worker, too.
"""

CROWD = 64
"""Who ask in one script at most: the server does nothing else meanwhile."""

TURNS = 4
"""Turns of the loop that a batch waits for company at most."""

IDLE_S = 50e-6
"""A turn of the loop that is shorter than this had nothing to do, seconds."""

PATIENT = 16
"""How many answers have to come within `timeout_s`, and the next as many within as long again."""

SAYS = 5
"""Which word of a script's call says whether it was sent before."""

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0


async def company(loop: asyncio.AbstractEventLoop) -> None:
    """Give way while the loop is busy: those whose turn it is may be about to say something that can go along."""
    for _ in range(TURNS):
        began = loop.time()
        await asyncio.sleep(0)
        if loop.time() - began < IDLE_S:
            return


def pack(words: Sequence[bytes]) -> list[bytes]:
    """Return a command as the server reads it, in parts."""
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        out += (b"$%d\r\n" % len(word), word, b"\r\n")
    return out


@dataclass(eq=False, slots=True)
class Call:
    """A command that waits for its answer. `number`: of a script that writes, in its session; 0: it is none."""

    words: list[bytes]
    future: asyncio.Future[Any]
    until: float
    session: str
    number: int
    writes: bool
    sent: bool = False

    def packed(self, session: Session) -> list[bytes]:
        """Return it as the server reads it."""
        if self.number:
            self.words[SAYS] = session.says(self.number, again=self.sent)
        self.sent = True
        return pack(self.words)


class Statistics(msgspec.Struct, frozen=True):
    """What a line has done since it was opened."""

    calls: int
    batches: int
    connections: int


class Line:
    """The calls of one process that share a connection. `run` is its task.

    Args:
        server: who is called.
    """

    def __init__(self, server: Server) -> None:
        self.session = Session(server.settings.url)
        self._server = server
        self._base = server.settings.base.encode()
        self._patience_s = 2 * server.settings.timeout_s
        self._loop = asyncio.get_running_loop()
        self._calls: deque[Call] = deque()
        self._called = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._count = self._batches = self._connections = 0
        self._open = True

    def statistics(self) -> Statistics:
        """Return what was done so far."""
        return Statistics(self._count, self._batches, self._connections)

    def script(self, script: Script, now: bytes, *arguments: bytes, again: bool = False) -> asyncio.Future[Any]:
        """Run a script; its answer is `lost` if the store has lost writes: then it was not run.

        Args:
            script: which.
            now: the time, or nothing for the server's.
            arguments: what else it takes.
            again: whether it may have been run before.

        Raises:
            StoreUnavailable: it was not run, or (as the message says) it may have been.
        """
        return self.call(script, now, *arguments, again=again).future

    def call(self, script: Script, now: bytes, *arguments: bytes, again: bool = False) -> Call:
        """Do the same; return the call, whose words may grow until it is sent."""
        words = [b"EVALSHA", script.sha, b"1", self._base, now, b"0", *arguments]
        number = self.session.number() if script.writes else 0
        return self._call(words, number=number, writes=script.writes, sent=again)

    async def command(self, *words: bytes) -> Any:
        """Send a command that may be repeated without harm; return its answer."""
        return await self._call(list(words), number=0, writes=words[0] in (b"SET", b"HSET")).future

    def _call(self, words: list[bytes], *, number: int, writes: bool, sent: bool = False) -> Call:
        if not self._open:
            raise self._closed()
        loop = self._loop
        call = Call(
            words, loop.create_future(), loop.time() + self._patience_s, self.session.name, number, writes, sent
        )
        self._calls.append(call)
        self._called.set()
        return call

    async def dial(self) -> AbstractConnection:
        """Connect, and teach the server the scripts."""
        connection = await self._server.dial()
        try:
            load = [[b"SCRIPT", b"LOAD", script.text] for script in redis_scripts.ALL]
            for answer in await self._exchange(connection, [_call(words) for words in load]):
                if isinstance(answer, Exception):
                    raise Elsewhere(str(answer)) if passing(answer) else self._server.refused(answer)
        except BaseException:
            await hang_up(connection)
            raise
        self._connections += 1
        self._connection = connection
        return connection

    async def run(self) -> None:
        """Answer calls until canceled."""
        pause = FIRST_PAUSE_S
        try:
            while True:
                await self._called.wait()
                if await self._turn():
                    pause = FIRST_PAUSE_S
                else:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
        finally:
            await self._drop()

    def close(self) -> None:
        """Take no more calls; its task has ended."""
        self._open = False
        self._fail(self._calls, self._closed())
        self._calls.clear()

    async def _turn(self) -> bool:
        """Answer one batch; False if it is better to wait a little before the next one."""
        try:
            connection = self._connection or await self.dial()
        except StoreUnavailable as refusal:
            self._fail(self._calls, refusal)
            self._calls.clear()
            self._called.clear()
            return True
        except (*UNREACHED, Elsewhere) as error:
            self._give_up(error)
            return False
        await company(self._loop)
        batch = self._gather()
        try:
            answers = await self._exchange(connection, batch)
        except UNREACHED as error:
            await self._drop()
            self._calls.extendleft(reversed(batch))
            self._give_up(error)
            return False
        finally:
            if not self._calls:
                self._called.clear()
        self._count += len(batch)
        self._batches += 1
        return await self._settle(batch, answers)

    def _gather(self) -> list[Call]:
        batch: list[Call] = []
        weight = 0
        while self._calls and len(batch) < BATCH and weight < BATCH_BYTES:
            call = self._calls.popleft()
            if call.future.done() and not call.sent:
                continue
            if call.number and call.session != self.session.name:
                if not call.future.done():
                    call.future.set_result([b"lost"])
                continue
            batch.append(call)
            weight += sum(map(len, call.words))
        return batch

    async def _exchange(self, connection: AbstractConnection, batch: Sequence[Call]) -> list[Any]:
        """Send a batch, and wait until what it wrote is as safe as was asked for."""
        settings, answers = self._server.settings, []
        packed = [part for call in batch for part in call.packed(self.session)]
        waits = settings.wait_aof or settings.wait_replicas
        if waits := bool(waits and any(call.writes for call in batch)):
            limit = b"%d" % int(settings.timeout_s * 500)
            replicas = b"%d" % settings.wait_replicas
            words = [b"WAITAOF", b"1", replicas, limit] if settings.wait_aof else [b"WAIT", replicas, limit]
            packed += _call(words).packed(self.session)
        async with asyncio.timeout(settings.timeout_s) as limited:
            await connection.send_packed_command([b"".join(packed)], check_health=False)
            for n in range(len(batch) + waits):
                if n % PATIENT == 0:
                    limited.reschedule(self._loop.time() + settings.timeout_s)
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:
                    answers.append(error)
        if waits and (short := self._short(answers.pop())):
            answers = [
                short if call.writes and not isinstance(answer, Exception) else answer
                for call, answer in zip(batch, answers, strict=True)
            ]
        return answers

    def _short(self, answer: Any) -> StoreUnavailable | None:
        settings = self._server.settings
        if isinstance(answer, Exception):
            return self._server.refused(answer)
        local, replicas = answer if settings.wait_aof else (1, answer)
        if local >= 1 and replicas >= settings.wait_replicas:
            return None
        what = "the disk" if not local else f"{settings.wait_replicas} replica(s)"
        return StoreUnavailable(
            f"{settings.url} wrote, but not to {what} within {settings.timeout_s:g} s: "
            "what was under way may be lost in a failure; check the disk and the replicas"
        )

    async def _settle(self, batch: Sequence[Call], answers: Sequence[Any]) -> bool:
        later = []
        for call, answer in zip(batch, answers, strict=True):
            if isinstance(answer, ResponseError) and passing(answer):
                later.append((call, answer))
            elif call.future.done():
                continue
            elif isinstance(answer, StoreUnavailable):
                call.future.set_exception(answer)
            elif isinstance(answer, Exception):
                call.future.set_exception(self._server.refused(answer))
            else:
                if call.number and answer[0] == b"lost":
                    self.session.lose(answer[1].decode(), int(answer[2]), float(answer[3]))
                elif call.number:
                    self.session.acknowledge(call.number)
                call.future.set_result(answer)
        if not later:
            return True
        await self._drop()
        self._calls.extendleft(call for call, _ in reversed(later))
        self._called.set()
        self._give_up(later[0][1])
        return False

    def _give_up(self, reason: Exception) -> None:
        """Tell the callers who have waited long enough."""
        now = self._loop.time()
        late = [call for call in self._calls if call.until <= now or (call.future.done() and not call.sent)]
        self._fail(late, self._server.unreached(reason))
        self._calls = deque(call for call in self._calls if call not in set(late))
        if not self._calls:
            self._called.clear()
        else:
            self._called.set()

    def _fail(self, calls: Sequence[Call] | deque[Call], refusal: StoreUnavailable) -> None:
        for call in calls:
            if not call.future.done():
                fate = "; what was under way may have been done" if call.sent and call.writes else ""
                call.future.set_exception(StoreUnavailable(f"{refusal}{fate}"))

    def _closed(self) -> StoreUnavailable:
        url = self._server.settings.url
        return StoreUnavailable(f"{url} was closed by this process: use a store only within its 'async with'")

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await hang_up(connection)


class Question:
    """A script that answers yes or no to each of all who ask until its call is sent: few calls for a turn of the loop.

    Args:
        line: how it gets there.
        script: answers with a `1` or a `0` for each.
    """

    def __init__(self, line: Line, script: Script) -> None:
        self._line = line
        self._script = script
        self._loop = asyncio.get_running_loop()
        self._call: Call | None = None
        self._askers: list[asyncio.Future[bool]] = []

    async def ask(self, *about: bytes) -> bool:
        """Return the answer; it is from after this was called.

        Raises:
            StoreUnavailable: the server cannot be reached.
        """
        call = self._call
        if call is None or call.sent or call.future.done() or len(self._askers) == CROWD:
            call = self._call = self._line.call(self._script, b"")
            askers: list[asyncio.Future[bool]] = []
            self._askers = askers
            call.future.add_done_callback(lambda answer: _tell(answer, askers))
        call.words += about
        asker: asyncio.Future[bool] = self._loop.create_future()
        self._askers.append(asker)
        return await asker


def _tell(answer: asyncio.Future[bytes], askers: Sequence[asyncio.Future[bool]]) -> None:
    error = answer.exception()
    for n, asker in enumerate(askers):
        if asker.done():
            continue
        if error is None:
            asker.set_result(answer.result()[n] == ord("1"))
        else:
            asker.set_exception(StoreUnavailable(str(error)))


def _call(words: list[bytes]) -> Call:
    return Call(words, asyncio.get_running_loop().create_future(), 0.0, "", number=0, writes=False)
