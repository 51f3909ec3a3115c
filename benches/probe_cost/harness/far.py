"""The target in a namespace of its own, behind a cable.

Only so can its packets vanish without an answer, as when a machine loses power.
"""

import subprocess

from . import sandbox

NETWORK = "10.64.0.0/12"
FIRST = "10.64.0.0"
NEAR, FAR = "10.255.0.1", "10.255.0.2"
DEVICE = "near"


class FarSide:
    """A second namespace, connected by a pair of virtual devices."""

    def __init__(self):
        # The process holds the namespace open, and its end ends it.
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=-1
        )
        self.holder.stdout.readline()
        self.enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--"]
        sandbox.ip("link", "add", DEVICE, "type", "veth", "peer", "name", "far")
        sandbox.ip("link", "set", "far", "netns", str(self.holder.pid))
        sandbox.ip("addr", "add", f"{NEAR}/30", "dev", DEVICE)
        sandbox.ip("link", "set", DEVICE, "up")
        self._ip("link", "set", "lo", "up")
        self._ip("addr", "add", f"{FAR}/30", "dev", "far")
        self._ip("link", "set", "far", "up")
        self._ip("route", "add", "local", NETWORK, "dev", "lo")
        sandbox.ip("route", "add", NETWORK, "via", FAR)
        backlog = (
            "for name in core/somaxconn ipv4/tcp_max_syn_backlog; do echo 65535 >/proc/sys/net/$name; done"
        )
        subprocess.run([*self.enter, "sh", "-c", backlog], check=False, capture_output=True)

    def _ip(self, *words):
        subprocess.run([*self.enter, "ip", *words], check=True, capture_output=True, text=True)

    def cut(self):
        """Packets arrive and are dropped; nobody is told."""
        self._ip("route", "add", "blackhole", f"{NEAR}/32")

    def mend(self):
        """Packets are answered again."""
        self._ip("route", "del", "blackhole", f"{NEAR}/32")

    def close(self):
        """Ends the namespace; the cable goes with it."""
        self.holder.terminate()
        self.holder.wait()
