"""When connections arrive, by the kernel's clock.

A packet socket on the loopback device sees the first packet of every
connection, with the time at which the kernel passed it on. Neither the target's
nor the recorder's own lateness is in it, and a probe that resets before it is
accepted counts too.
"""

import ctypes
import socket
import struct
import threading
import time

ETH_P_IP = 0x0800
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_IGNORE_OUTGOING = 23
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35


def first_packets_to(port):
    """A classic BPF program: TCP over IPv4, SYN without ACK, to this port; 40 bytes of it."""
    program = [
        (0x30, 0, 0, 9),  # the protocol
        (0x15, 0, 7, 6),  # TCP
        (0xB1, 0, 0, 0),  # X = length of the IP header
        (0x50, 0, 0, 13),  # TCP flags
        (0x54, 0, 0, 0x12),
        (0x15, 0, 3, 0x02),  # SYN alone
        (0x48, 0, 0, 2),  # destination port
        (0x15, 0, 1, port),
        (0x06, 0, 0, 40),
        (0x06, 0, 0, 0),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in program), len(program)


class Arrivals:
    """Records until it is closed; `times` maps an address to its arrivals in nanoseconds.

    A packet sent again, because nobody answered, counts once.
    """

    def __init__(self, port, device="lo"):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        code, length = first_packets_to(port)
        self._code = ctypes.create_string_buffer(code)
        header = struct.pack("HL", length, ctypes.addressof(self._code))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        if device == "lo":
            # There every packet is seen leaving and coming.
            self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        # Leaving packets are shown only to those who want every protocol.
        self.socket.bind((device, ETH_P_IP if device == "lo" else ETH_P_ALL))
        self.socket.settimeout(0.2)
        self.times = {}
        self._last = {}
        self.lost = 0
        self._skew_at_start = self._skew()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    @staticmethod
    def _skew():
        """How far the wall clock, which stamps packets, is from the steady one; with the time."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.time_ns() - time.monotonic_ns()

    def _record(self):
        while not self._ending.is_set():
            try:
                packet, ancillary, _, _ = self.socket.recvmsg(64, 64)
            except TimeoutError:
                continue
            # The address, and what tells a new connection from one tried again:
            # its own port and first sequence number.
            address, connection = packet[16:20], packet[20:22] + packet[24:28]
            if self._last.get(address) == connection:
                continue
            self._last[address] = connection
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
            stamp = seconds * 1_000_000_000 + nanoseconds
            self.times.setdefault(address, []).append(stamp)

    def close(self):
        """Ends the record; times become steady, addresses text."""
        self._ending.set()
        self._thread.join()
        _, self.lost = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.socket.close()
        began, skew = self._skew_at_start
        ended, last_skew = self._skew()
        drift = (last_skew - skew) / max(ended - began, 1)

        def steady(stamp):
            moment = stamp - skew
            return moment - round((moment - began) * drift)

        self.times = {
            socket.inet_ntoa(address): [steady(stamp) for stamp in stamps]
            for address, stamps in self.times.items()
        }


def lateness(times, interval_ns):
    """How late each arrival was, and how many slots stayed empty.

    A member's slots lie one interval apart; its most punctual arrival fixes
    where. The prober's even delay is therefore not in it: its own lag histogram
    has that.
    """
    late, missed = [], 0
    for stamps in times.values():
        first = stamps[0]
        slots = [round((stamp - first) / interval_ns) for stamp in stamps]
        offsets = [stamp - slot * interval_ns for stamp, slot in zip(stamps, slots)]
        punctual = min(offsets)
        late += [offset - punctual for offset in offsets]
        missed += slots[-1] - slots[0] + 1 - len(set(slots))
    return sorted(late), missed


def bins(times, start_ns, end_ns, width_ns):
    """Arrivals in each bin of a period."""
    counts = [0] * ((end_ns - start_ns) // width_ns)
    for stamps in times.values():
        for stamp in stamps:
            index = (stamp - start_ns) // width_ns
            if 0 <= index < len(counts):
                counts[index] += 1
    return counts
