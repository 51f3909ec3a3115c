"""Members that misbehave on cue, and a record of every probe they were sent.

A `Fleet` listens on loopback addresses of its own, one for each member and prober.
A member's mode says how it treats who calls. Every connection attempt is seen on
the wire (the SYN, with the kernel's time), so that probes count that no listener
ever hears of: those refused or dropped.

Used by `tests/chaos/run` and `tests/soak/run`. Needs CAP_NET_RAW.
"""

import array
import ctypes
import heapq
import random
import resource
import select
import socket
import ssl
import struct
import subprocess
import time

# What a probe was answered with. MAYBE: the answer and a change of the member, or
# its deadline, were too close to tell; both ends are right.
PASS, FAIL, MAYBE = 0, 1, 2

# Modes of a member whose check is HTTP, and what they make of a probe.
HTTP_MODES = {
    "up": PASS,
    "slow": PASS,
    "error": FAIL,
    "reset": FAIL,
    "closed": FAIL,
    "cut": FAIL,
    "garbage": FAIL,
    "stalled": FAIL,
    "late": FAIL,
    "drip": FAIL,
    "vanish": FAIL,
    "refusing": FAIL,
    "dropped": FAIL,
}
# Of one whose check is HTTPS: the same, and what can go wrong with a handshake.
HTTPS_MODES = HTTP_MODES | {
    "unshaken": FAIL,
    "alert": FAIL,
    "mute": FAIL,
}
# Of one whose check is TCP: an established connection is a success.
TCP_MODES = {"up": PASS, "stalled": PASS, "refusing": FAIL, "dropped": FAIL}
MODES = {"http": HTTP_MODES, "https": HTTPS_MODES, "tcp": TCP_MODES}
# Modes that end in silence: the prober's deadline is the end of the probe.
SILENT = {"stalled", "late", "drip", "vanish", "dropped", "mute"}
# Modes of HTTPS in which no handshake is made.
NO_HANDSHAKE = {"stalled", "vanish", "garbage", "unshaken", "alert"}

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
GARBAGE = b"SSH-2.0-OpenSSH_9.2p1\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Le"
# A fatal alert, handshake_failure (RFC 8446, 6).
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"

# A packet and a change of mode closer than this may have met in either order.
RACE = 0.03
# An answer this close to the deadline may be too late.
CLOSE_CALL = 0.1

SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_TIMESTAMPNS = 26, 27, 35


def attach_filter(sock, program):
    """A classic BPF program in front of a socket."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code)
    head = struct.pack("HL", len(program), ctypes.addressof(memory))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)


DROP_ALL = [(6, 0, 0, 0)]


def only_calls(first, last):
    """Lets through the SYNs of TCP connections to 127.first.* .. 127.last.*."""
    return [
        (0x30, 0, 0, 9),  # the protocol
        (0x15, 0, 8, 6),
        (0x28, 0, 0, 16),  # the first half of the destination
        (0x35, 0, 6, 127 << 8 | first),
        (0x25, 5, 0, 127 << 8 | last),
        (0xB1, 0, 0, 0),  # past the IP header
        (0x50, 0, 0, 13),  # the TCP flags
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 2),  # SYN without ACK
        (6, 0, 0, 64),
        (6, 0, 0, 0),
    ]


def server_context(folder):
    """TLS as a member speaks it, with a certificate of its own."""
    key, certificate = f"{folder}/member.key", f"{folder}/member.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", key, "-out", certificate, "-subj", "/CN=members", "-days", "30"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class Record:
    """Every probe of one member by one prober, in order."""

    def __init__(self):
        self.started = array.array("d")
        self.earliest = array.array("d")
        self.latest = array.array("d")
        self.outcome = array.array("b")

    def add(self, started, earliest, latest, outcome):
        self.started.append(started)
        self.earliest.append(earliest)
        self.latest.append(latest)
        self.outcome.append(outcome)

    def __len__(self):
        return len(self.started)

    def probes(self):
        return sorted(zip(self.started, self.earliest, self.latest, self.outcome))


class Port:
    """One member as one prober sees it."""

    __slots__ = ("address", "protocol", "mode", "previous", "changed", "listener", "calls", "record")

    def __init__(self, address, protocol):
        self.address = address
        self.protocol = protocol
        self.mode = self.previous = "up"
        self.changed = 0.0
        self.listener = None
        # Attempts under way: source port -> [time of the SYN, its number, answered].
        self.calls = {}
        self.record = Record()


class Fleet:
    """All ports, and the loop that serves them."""

    def __init__(self, groups, protocols, timeout, tcp_port, context=None):
        """`groups`: a second octet for each prober, next to each other.
        `protocols`: "http", "https" or "tcp" for each member; `context`: of those
        that speak TLS."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.timeout = timeout
        self.context = context
        self.tcp_port = tcp_port
        self.poll = select.epoll()
        self.files = {}
        self.timers = []
        self.count = 0
        self.watchers = {}
        self.by_address = {}
        self.groups = []
        self.unmatched = 0
        self.lost = 0
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(0x0800))
        attach_filter(self.wire, only_calls(min(groups), max(groups)))
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.wire.bind(("lo", 0x0800))
        self.watch(self.wire, self.hear)
        for octet in groups:
            ports = []
            for number, protocol in enumerate(protocols):
                port = Port(f"127.{octet}.{number // 250}.{number % 250 + 1}", protocol)
                self.by_address[socket.inet_aton(port.address)] = port
                ports.append(port)
                self.listen(port)
            self.groups.append(ports)

    # The loop

    def watch(self, sock, handler, events=select.EPOLLIN):
        self.files[sock.fileno()] = (sock, handler)
        self.poll.register(sock.fileno(), events)

    def forget(self, sock):
        if self.files.pop(sock.fileno(), None):
            self.poll.unregister(sock.fileno())
        sock.close()

    def at(self, moment, action):
        self.count += 1
        heapq.heappush(self.timers, (moment, self.count, action))

    def turn(self, until):
        """Serves until that time."""
        while True:
            now = time.time()
            while self.timers and self.timers[0][0] <= now:
                heapq.heappop(self.timers)[2]()
            if now >= until:
                return
            wake = min(until, self.timers[0][0] if self.timers else until)
            for number, _ in self.poll.poll(max(0.0, wake - time.time())):
                if number in self.files:
                    sock, handler = self.files[number]
                    handler(sock)

    # Calls on the wire

    def hear(self, sock):
        while True:
            try:
                packet, extra, _, _ = sock.recvmsg(64, 64)
            except BlockingIOError:
                return
            seconds, nanos = struct.unpack("qq", extra[0][2][:16])
            port = self.by_address.get(packet[16:20])
            header = (packet[0] & 15) * 4
            source, target, number = struct.unpack_from("!HHI", packet, header)
            if port is None or target != self.tcp_port:
                continue
            known = port.calls.get(source)
            if known and known[1] == number:
                continue  # sent again
            self.open_call(port, source, number, seconds + nanos / 1e9)

    def open_call(self, port, source, number, when):
        call = [when, number, False]
        port.calls[source] = call
        mode = port.mode if when >= port.changed else port.previous
        if abs(when - port.changed) < RACE:
            verdicts = {self.verdict(port, port.mode), self.verdict(port, port.previous)}
            outcome = verdicts.pop() if len(verdicts) == 1 else MAYBE
            self.close_call(port, source, call, when, when + self.timeout, outcome)
        elif mode == "refusing":
            self.close_call(port, source, call, when, when, FAIL)
        elif mode == "dropped":
            end = when + self.timeout
            self.close_call(port, source, call, end, end, FAIL)
        elif port.protocol == "tcp":
            self.close_call(port, source, call, when, when, PASS)
        else:
            # An answer settles it. Without one the prober gave up, unless the
            # listener closed under a connection nobody had accepted.
            self.at(when + self.timeout + 1.0, lambda: self.give_up(port, source, call))

    def verdict(self, port, mode):
        return MODES[port.protocol][mode]

    def close_call(self, port, source, call, earliest, latest, outcome):
        if not call[2]:
            call[2] = True
            port.record.add(call[0], earliest, latest, outcome)
            self.at(time.time() + 3 * self.timeout + 2, lambda: self.drop_call(port, source, call))

    def drop_call(self, port, source, call):
        if port.calls.get(source) is call:
            del port.calls[source]

    def give_up(self, port, source, call):
        if not call[2]:
            self.lost += 1
            self.close_call(port, source, call, call[0], call[0] + self.timeout, MAYBE)

    # Modes

    def listen(self, port):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((port.address, self.tcp_port))
        sock.listen(64)
        port.listener = sock
        self.watch(sock, lambda sock: self.accept(sock, port))

    def change(self, member, mode):
        """Puts a member, as every prober sees it, into another mode."""
        self.hear(self.wire)
        for ports in self.groups:
            port = ports[member]
            if port.listener:
                self.accept(port.listener, port)
            port.previous, port.mode = port.mode, mode
            if port.previous == "dropped" and port.listener:
                port.listener.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            if mode == "refusing":
                if port.listener:
                    self.forget(port.listener)
                    port.listener = None
            elif port.listener is None:
                self.listen(port)
            if mode == "dropped":
                attach_filter(port.listener, DROP_ALL)
            port.changed = time.time()

    # Connections

    def accept(self, listener, port):
        # The call comes before the connection; what is on the wire is read first.
        self.hear(self.wire)
        while True:
            try:
                sock, (_, source) = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            sock.setblocking(False)
            call = port.calls.get(source)
            if call is None:
                self.unmatched += 1
                call = [time.time(), 0, True]
            if port.mode == "vanish":
                attach_filter(sock, DROP_ALL)
            try:
                Connection(self, sock, port, source, call)
            except OSError:
                # The prober left before a handshake could begin.
                sock.close()


class Connection:
    """One accepted connection, treated as its member's mode was at that time."""

    __slots__ = ("fleet", "sock", "port", "source", "call", "mode", "done", "shaking")

    def __init__(self, fleet, sock, port, source, call):
        self.fleet, self.sock, self.port, self.source, self.call = fleet, sock, port, source, call
        self.mode = port.mode
        self.done = False
        self.shaking = port.protocol == "https" and self.mode not in NO_HANDSHAKE
        if self.shaking:
            self.sock = fleet.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        fleet.watch(self.sock, self.readable)
        fleet.at(time.time() + 3 * fleet.timeout + 1, self.close)
        if port.protocol != "tcp" and self.mode in SILENT:
            end = call[0] + fleet.timeout
            self.settle(end, FAIL)

    def settle(self, end, outcome):
        self.fleet.close_call(self.port, self.source, self.call, end, end, outcome)

    def readable(self, sock):
        try:
            if self.shaking:
                sock.do_handshake()
                self.shaking = False
            data = sock.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif not self.done and self.port.protocol != "tcp":
            self.done = True
            self.answer()

    def answer(self):
        mode, fleet = self.mode, self.fleet
        if mode == "up":
            self.send(ANSWER, PASS)
        elif mode == "slow":
            fleet.at(time.time() + 0.3 * fleet.timeout, lambda: self.send(ANSWER, PASS))
        elif mode == "late":
            fleet.at(time.time() + 1.6 * fleet.timeout, lambda: self.send(ANSWER, None))
        elif mode == "error":
            self.send(ERROR, FAIL)
        elif mode == "garbage":
            self.send(GARBAGE, FAIL)
        elif mode == "alert":
            self.send(ALERT, FAIL)
        elif mode == "cut":
            self.send(CUT, FAIL)
        elif mode == "drip":
            self.drip(0)
        elif mode in ("closed", "reset", "unshaken"):
            if mode == "reset":
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.settle(time.time(), FAIL)
            self.close()

    def send(self, data, outcome):
        if self.sock.fileno() < 0:
            # The prober went first; its deadline decided.
            end = self.call[0] + self.fleet.timeout
            self.settle(end, FAIL if outcome is None else MAYBE)
            return
        try:
            self.sock.send(data)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
        now = time.time()
        if outcome is PASS and now - self.call[0] > self.fleet.timeout - CLOSE_CALL:
            self.fleet.close_call(self.port, self.source, self.call, self.call[0], now + self.fleet.timeout, MAYBE)
        elif outcome is not None:
            self.settle(now, outcome)

    def drip(self, sent):
        if self.sock.fileno() < 0 or sent >= len(ANSWER) // 2:
            return
        try:
            self.sock.send(ANSWER[sent : sent + 1])
        except OSError:
            self.close()
            return
        self.fleet.at(time.time() + 0.05, lambda: self.drip(sent + 1))

    def close(self):
        if self.sock.fileno() < 0:
            return
        if self.mode in SILENT:
            # Nobody is there any more to say goodbye to.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.fleet.forget(self.sock)


class Script:
    """When which member changes to what: the same for the same seed."""

    def __init__(self, seed, member, protocol):
        self.dice = random.Random(f"{seed}/{member}")
        self.bad = [mode for mode, verdict in self.modes(protocol).items() if verdict is FAIL]
        self.good = [mode for mode, verdict in self.modes(protocol).items() if verdict is PASS]
        self.is_up = True

    @staticmethod
    def modes(protocol):
        return MODES[protocol]

    def next(self):
        """The next mode and for how long: some shorter than any threshold, some
        long enough for every verdict to settle."""
        turn_around = self.dice.random() < 0.8
        self.is_up = not self.is_up if turn_around else self.is_up
        mode = self.dice.choice(self.good if self.is_up else self.bad)
        low, high = self.dice.choice([(0.2, 2.5), (2.0, 6.0), (5.0, 20.0)])
        return mode, self.dice.uniform(low, high)
