"""One connection of the broker of these tests, and what travels on it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio
import trio.testing

from tests.conform.ends import ClientEnd
from tests.conform.parsing import Request, Wrong, cut
from trio_broker.conform.frames import encode

if TYPE_CHECKING:
    from tests.conform.broker import Broker

VERSIONS = ("1.0", "1.1", "1.2")
PASSED_ON = frozenset({"destination", "content-length", "receipt", "transaction", "message-id", "subscription", "ack"})


@dataclasses.dataclass(eq=False)
class Message:
    headers: dict[str, str]
    body: bytes
    destination: str
    redelivered: bool = False


@dataclasses.dataclass(eq=False)
class Subscription:
    session: Session
    id: str | None
    destination: str
    mode: str
    unsettled: dict[str, Message] = dataclasses.field(default_factory=dict)


class Session:
    """One connection."""

    def __init__(self, broker: Broker, end: ClientEnd) -> None:
        self.broker = broker
        self.end = end
        self.version = ""
        self.transactions: dict[str, list[Request]] = {}
        self.last_sent = trio.current_time()
        self.period = 0.0
        self.patience = float("inf")
        self.over = False
        self.buffer = b""

    def flawed(self, name: str) -> bool:
        return self.broker.flawed(name)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.beat)
            graceful = False
            with trio.CancelScope():
                graceful = await self.read()
            self.end_of_session(graceful)
            nursery.cancel_scope.cancel()

    async def read(self) -> bool:
        while not self.over:
            data = b""
            with trio.move_on_after(self.patience):
                data = bytes(await self.end.outgoing.get_data())
            if not data:
                if self.flawed("keeps what is half-closed"):
                    await trio.sleep_forever()
                return False
            self.buffer += data
            try:
                while not self.over:
                    request, self.buffer = cut(self.buffer, self.version, self.flawed)
                    if request is None:
                        break
                    self.handle(request)
            except Wrong as wrong:
                self.refuse(wrong)
        return True

    def handle(self, request: Request) -> None:
        if request.command.startswith("GET ") and self.flawed("speaks HTTP"):
            self.put(b"HTTP/1.1 400 Bad Request\n\n\0")
            self.close()
            return
        try:
            if not self.version:
                self.connect(request)
                return
            self.carry_out(request)
        except Wrong as wrong:
            wrong.receipt = request.headers.get("receipt")
            self.refuse(wrong)

    def refuse(self, wrong: Wrong) -> None:
        if self.flawed(wrong.kind):
            if wrong.receipt is not None:
                self.write("RECEIPT", {"receipt-id": wrong.receipt})
            return
        headers = {} if self.flawed("errors without message") else {"message": str(wrong)}
        if wrong.receipt is not None and not self.flawed("errors without receipt-id"):
            headers["receipt-id"] = wrong.receipt
        headers |= wrong.headers
        if not self.flawed("errors without content-type"):
            headers["content-type"] = "text/plain"
        if not self.flawed("closes without an error"):
            data = encode(self.version or "1.2", "ERROR", headers.items(), b"a body")
            self.put(data.replace(b"\\c", b":") if self.flawed("errors without escapes") else data)
        if not self.flawed("errors do not close"):
            self.end.reset = self.flawed("resets after errors")
            self.close()

    def connect(self, request: Request) -> None:
        if request.command not in {"CONNECT", "STOMP"} or (request.command == "STOMP" and self.flawed("no STOMP")):
            raise Wrong("takes anything before CONNECT", "CONNECT is missing")
        heart_beat = self.heart_beat(request)
        offered = [name.strip() for name in request.headers.get("accept-version", "1.0").split(",")]
        known = [version for version in VERSIONS if version in offered]
        if "accept-version" not in request.headers and self.flawed("1.1 by default"):
            known = ["1.1"]
        if not known and self.flawed("takes any version"):
            known = ["1.2"]
        if not known:
            listed = {} if self.flawed("hides its versions") else {"version": ",".join(VERSIONS)}
            raise Wrong("", "no common version", listed)
        self.version = known[0] if self.flawed("the lowest version") else known[-1]
        if self.flawed("the first version"):
            self.version = next(version for version in offered if version in VERSIONS)
        session = "same" if self.flawed("one session") else str(next(self.broker.numbers))
        server = "a/1/2" if self.flawed("a wrong server") else "test/1 a comment"
        version = "9.9" if self.flawed("connects in another version") else self.version
        headers = {"version": version, "session": session, "server": server, "heart-beat": heart_beat}
        self.put(encode(self.version, "CONNECTED", headers.items()))
        if "receipt" in request.headers and self.flawed("a receipt for CONNECT"):
            self.write("RECEIPT", {"receipt-id": request.headers["receipt"]})

    def heart_beat(self, request: Request) -> str:
        can, comma, wants = request.headers.get("heart-beat", "0,0").partition(",")
        if not (comma and can.isdigit() and wants.isdigit()):
            if self.flawed("takes any heart-beat"):
                return "0,0"
            raise Wrong("takes any heart-beat", "heart-beat is two numbers")
        if int(can) and not self.flawed("forgives silence"):
            periods = 0.7 if self.flawed("is impatient") else 1 if self.flawed("is strict") else 2
            self.patience = max(int(can), 1000) / 1000 * periods
        if (int(wants) and not self.flawed("sends no heart-beats")) or self.flawed("always beats"):
            self.period = max(int(wants), 1000) / 1000 * (1.9 if self.flawed("beats late") else 0.9)
        if self.flawed("declines heart-beats"):
            return "0,0"
        return "soon" if self.flawed("a wrong heart-beat") else "1000,1000"

    async def beat(self) -> None:
        while True:
            due = self.last_sent + (self.period or 1)
            if trio.current_time() >= due:
                due = trio.current_time() + 0.1
                if self.period:
                    self.put(encode(self.version, "RECEIPT", []) if self.flawed("beats with frames") else b"\n")
                    continue
            await trio.sleep_until(due)

    def carry_out(self, request: Request) -> None:
        transaction = request.headers.get("transaction")
        bound = request.command in {"SEND", "ACK", "NACK"} and transaction is not None
        if bound and transaction not in self.transactions:
            raise Wrong("takes any transaction", "no such transaction")
        if bound and not self.flawed("no transactions"):
            request.headers.pop("transaction")
            self.transactions[str(transaction)].append(request)
        else:
            self.carry_out_now(request)
        self.confirm(request)

    def carry_out_now(self, request: Request) -> None:
        commands: dict[str, Callable[[Request], None]] = {
            "SEND": self.send,
            "SUBSCRIBE": self.subscribe,
            "UNSUBSCRIBE": self.unsubscribe,
            "ACK": self.settle,
            "NACK": self.settle,
            "BEGIN": self.begin,
            "COMMIT": self.commit,
            "ABORT": self.abort,
            "DISCONNECT": lambda _: None,
        }
        known = self.version != "1.0" or request.command != "NACK"
        if request.command not in commands or not known:
            kind = "takes a second CONNECT" if request.command == "CONNECT" else "takes any command"
            raise Wrong(kind, f"no such command: {request.command}")
        commands[request.command](request)

    def confirm(self, request: Request) -> None:
        receipt = request.headers.get("receipt")
        if receipt is not None and not self.flawed(f"no receipt for {request.command}"):
            self.write("RECEIPT", {"receipt-id": receipt.lower() if self.flawed("small receipts") else receipt})
        elif receipt is None and self.flawed("receipts for everything"):
            self.write("RECEIPT", {"receipt-id": "unasked"})
        elif receipt is None and self.flawed("closes without a receipt"):
            self.close()
        if self.flawed("resets after a frame"):
            self.end.reset = True
            self.close()
        if request.command == "DISCONNECT" and not self.flawed("stays after DISCONNECT"):
            self.end.reset = self.flawed("resets after DISCONNECT")
            self.close()

    def demand(self, request: Request, name: str) -> str:
        if name not in request.headers:
            raise Wrong(f"{request.command} without {name}", f"{request.command} without {name}")
        return request.headers[name]

    def send(self, request: Request) -> None:
        destination = self.demand(request, "destination")
        headers = {} if self.flawed("drops headers") else dict(request.headers)
        if not self.flawed("passes everything on"):
            headers = {name: value for name, value in headers.items() if name not in PASSED_ON}
        self.broker.publish(Message(headers, request.body, destination))

    def subscribe(self, request: Request) -> None:
        destination = self.demand(request, "destination")
        if self.version != "1.0":
            self.demand(request, "id")
        name, mode = request.headers.get("id"), request.headers.get("ack", "auto")
        if self.flawed("client by default"):
            mode = request.headers.get("ack", "client")
        if any(each.session is self and each.id == name for each in self.broker.subscriptions):
            raise Wrong("takes a duplicate id", "duplicate id")
        if mode not in {"auto", "client", "client-individual"}:
            raise Wrong("takes any mode", "no such mode")
        self.broker.subscriptions.append(Subscription(self, name, destination, mode))
        self.broker.dispatch(destination)

    def unsubscribe(self, request: Request) -> None:
        name = request.headers.get("id")
        if name is None and self.version != "1.0":
            self.demand(request, "id")
        where = request.headers.get("destination")
        for each in self.broker.subscriptions:
            matches = each.id == name and (name is not None or each.destination == where)
            if each.session is self and matches and not self.flawed("ignores UNSUBSCRIBE"):
                self.broker.subscriptions.remove(each)
                return
        if not self.flawed("ignores UNSUBSCRIBE"):
            raise Wrong("UNSUBSCRIBE of anything", "no such subscription")

    def settle(self, request: Request) -> None:
        name = "id" if self.version == "1.2" else "message-id"
        key = self.demand(request, name)
        if self.version == "1.1":
            self.demand(request, "subscription")
        owner = next((each for each in self.broker.subscriptions if key in each.unsettled), None)
        if owner is None or owner.session is not self:
            raise Wrong("settles anything", f"no such message: {key}")
        keys = [key]
        individual = owner.mode == "client-individual" and not self.flawed("individual is cumulative")
        if not individual and not self.flawed("nothing is cumulative"):
            keys = list(owner.unsettled)[: list(owner.unsettled).index(key) + 1]
        if self.flawed("acknowledges all of the connection"):
            for each in self.broker.subscriptions:
                if each.session is self:
                    each.unsettled.clear()
        if request.command == "NACK" and self.flawed("NACK is an error"):
            raise Wrong("", "not built")
        for each_key in keys:
            if not self.flawed("ACK does nothing"):
                owner.unsettled.pop(each_key, None)

    def begin(self, request: Request) -> None:
        name = self.demand(request, "transaction")
        if name in self.transactions:
            raise Wrong("takes a duplicate transaction", "duplicate transaction")
        self.transactions[name] = []

    def commit(self, request: Request) -> None:
        for each in self.finished(request):
            if not self.flawed("COMMIT does nothing"):
                self.carry_out_now(each)

    def abort(self, request: Request) -> None:
        for each in self.finished(request):
            if self.flawed("ABORT commits"):
                self.carry_out_now(each)

    def finished(self, request: Request) -> list[Request]:
        name = self.demand(request, "transaction")
        if name not in self.transactions:
            raise Wrong("ends any transaction", f"no such transaction: {name}")
        return self.transactions.pop(name)

    def deliver(self, subscription: Subscription, message: Message) -> None:
        number = "1" if self.flawed("one message-id") else str(next(self.broker.numbers))
        headers = {"destination": message.destination, "message-id": number}
        if self.flawed("another destination"):
            headers["destination"] = message.destination.upper()
        if subscription.id is not None and not self.flawed("messages without subscription"):
            headers["subscription"] = subscription.id
        if subscription.mode != "auto":
            subscription.unsettled[number] = message
            if self.version == "1.2" and not self.flawed("messages without ack"):
                headers["ack"] = number
        elif self.flawed("auto returns"):
            subscription.unsettled[number] = message
        if message.redelivered:
            headers["redelivered"] = "true"
        body = message.body.strip() if self.flawed("trims bodies") else message.body
        if not body and self.flawed("fills empty bodies"):
            body = b"-"
        data = encode(self.version, "MESSAGE", {**headers, **message.headers}.items(), body)
        if self.flawed("no content-length") and b"\0" not in body:
            data = data.replace(f"content-length:{len(body)}\n".encode(), b"")
        self.put(data.replace(b"\\c", b":") if self.flawed("writes no escapes") else data)

    def end_of_session(self, graceful: bool) -> None:
        self.over = True
        for requests in self.transactions.values():
            if self.flawed("the end commits"):
                for request in requests:
                    with contextlib.suppress(Wrong):
                        self.carry_out_now(request)
        mine = [each for each in self.broker.subscriptions if each.session is self]
        for each in mine:
            self.broker.subscriptions.remove(each)
        for each in mine:
            if graceful or not self.flawed("loses what a break leaves"):
                self.broker.give_back(each)
            self.broker.dispatch(each.destination)
        self.close()

    def write(self, command: str, headers: dict[str, str]) -> None:
        self.put(encode(self.version or "1.2", command, headers.items()))

    def put(self, data: bytes) -> None:
        self.last_sent = trio.current_time()
        with contextlib.suppress(trio.ClosedResourceError, AssertionError):  # the client has gone, or we have
            self.end.incoming.put_data(data)

    def close(self) -> None:
        self.over = True
        with contextlib.suppress(trio.ClosedResourceError):
            self.end.incoming.put_eof()
