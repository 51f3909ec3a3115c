"""vitald, HAProxy and Envoy over the same members, with settings that mean the same.

Each prober is a process, a way to learn of its verdicts as they move, and what it
says of single probes where it says that. `moves` maps a member's address to
[(time, verdict)].
"""

import datetime
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict

from oracle import DOWN, UP

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def moment_of(text):
    """RFC 3339 with any number of decimals, as seconds since 1970."""
    whole, _, rest = text.rstrip("Z").partition(".")
    base = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc).timestamp()
    return base + float(f"0.{rest or 0}")


def probe_counts(metrics):
    """vitald_probes_total by address and result."""
    pattern = re.compile(
        r'vitald_probes_total\{channel="[^"]+",member="([\d.]+):\d+",group="[^"]*",result="(\w+)"\} (\d+)'
    )
    counts = defaultdict(dict)
    for address, result, number in pattern.findall(metrics):
        counts[address][result] = int(number)
    return counts


def newest_program():
    """The vitald that was built last."""
    built = [os.path.join(ROOT, "target", profile, "vitald") for profile in ("release", "debug")]
    built = [path for path in built if os.path.exists(path)]
    if not built:
        sys.exit("there is no target/release/vitald and no target/debug/vitald; build one")
    return max(built, key=os.path.getmtime)


class Settings:
    """What every prober is told."""

    def __init__(self, interval, timeout, rise, fall):
        self.interval, self.timeout, self.rise, self.fall = interval, timeout, rise, fall


class Prober:
    """A child process and its folder."""

    def __init__(self, folder):
        self.folder = folder
        self.moves = defaultdict(list)
        self.process = None

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name) + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(self.path(name) + ".new", self.path(name))

    def spawn(self, command):
        log = open(self.path("log"), "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def finish(self):
        """Learns what is still to be learned once the process has ended."""

    def watch(self, fleet):
        """Adds what has to be served while it runs."""


class Vitald(Prober):
    """The daemon, seen by its log of transitions and its status."""

    name = "vitald"

    def __init__(self, folder, binary, ports, settings, listen):
        super().__init__(folder)
        self.binary, self.ports, self.settings, self.listen = binary, ports, settings, listen
        # Single probes: (address, when) -> (result, reason).
        self.probes = {}
        self.trouble = []
        self.reading = None
        self.over = threading.Event()

    def config(self):
        s = self.settings
        lines = [f'[server]\nlisten = "{self.listen}"\n']
        for protocol in PROTOCOLS:
            ports = [port for port in self.ports if port.protocol == protocol]
            if not ports:
                continue
            lines.append(f'[[channels]]\nname = "{protocol}"\nport = {PORT[0]}\nbalance_strategy = "wrr"\nmember_type = "ip"')
            members = ",\n  ".join(f'{{ host = "{port.address}" }}' for port in ports)
            lines.append(f"members = [\n  {members},\n]")
            check = f'protocol = "{protocol.upper()}"\nthreshold_normal = {s.rise}\nthreshold_abnormal = {s.fall}\n'
            check += f'time_interval = "{round(s.interval * 1000)}ms"\ntimeout = "{round(s.timeout * 1000)}ms"\n'
            check += 'path = "/"\nhttp_code = "200"\n' if protocol != "tcp" else ""
            lines.append(f"[channels.vpc_health_config]\n{check}")
        return "\n".join(lines)

    def start(self):
        self.write("vitald.toml", self.config())
        self.spawn([self.binary, "run", "--log-format", "json", "--config", self.path("vitald.toml")])
        self.reading = threading.Thread(target=self.read_status, daemon=True)
        self.reading.start()

    def fetch(self, path, data=None, headers=None):
        request = urllib.request.Request(f"http://{self.listen}{path}", data=data, headers=headers or {})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    def read_status(self):
        """Sees every single probe: status is read more than twice an interval."""
        while not self.over.wait(self.settings.interval * 0.4):
            try:
                status = json.loads(self.fetch("/v1/status"))
            except (OSError, ValueError) as error:
                self.trouble.append(f"{time.time():.3f}: {error}")
                continue
            for channel in status["channels"]:
                for member in channel["members"]:
                    probe = member["last_probe"]
                    if probe:
                        key = (member["address"].partition(":")[0], probe["at"])
                        self.probes[key] = (probe["result"], probe["reason"])

    def reload(self):
        self.fetch("/v1/reload", b"", {"X-Vitald-Action": "reload"})

    def counts(self):
        """Probes per member and result so far, as its own metrics say."""
        return probe_counts(self.fetch("/metrics"))

    def stop(self):
        self.over.set()
        if self.reading:
            self.reading.join(15)
        super().stop()

    def finish(self):
        with open(self.path("log"), encoding="utf-8") as log:
            for line in log:
                event = json.loads(line)
                if event.get("to") in (UP, DOWN):
                    address = event["member"].partition(":")[0]
                    self.moves[address].append((moment_of(event["timestamp"]), event["to"]))
                elif event.get("level") == "ERROR":
                    self.trouble.append(line.strip())


class Haproxy(Prober):
    """A backend for each protocol, seen by the log lines that say UP or DOWN."""

    name = "haproxy"
    LINE = re.compile(rb"Server \w+/m([\d.]+) is (UP|DOWN)")

    def __init__(self, folder, ports, settings, log_address):
        super().__init__(folder)
        self.ports, self.settings = ports, settings
        self.log = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.log.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.log.bind((log_address, 0))

    def start(self):
        s = self.settings
        host, port = self.log.getsockname()
        inter, timeout = round(s.interval * 1000), round(s.timeout * 1000)
        lines = [
            f"global\n  log {host}:{port} len 2048 format raw local0 info\n  nbthread 1",
            f"  stats socket {self.path('stats')}",
            f"defaults\n  log global\n  timeout connect {timeout}\n  timeout check {timeout}\n  timeout server 5s",
            f"  default-server inter {inter} rise {s.rise} fall {s.fall}",
        ]
        for protocol in PROTOCOLS:
            ports = [port for port in self.ports if port.protocol == protocol]
            lines.append(f"backend {protocol}\n  mode {'tcp' if protocol == 'tcp' else 'http'}")
            if protocol != "tcp":
                lines.append("  option httpchk\n  http-check send meth GET uri / ver HTTP/1.1 hdr Host members")
                lines.append("  http-check expect status 200")
            check = "check check-ssl verify none" if protocol == "https" else "check"
            lines += [f"  server m{port.address} {port.address}:{PORT[0]} {check}" for port in ports]
        self.write("haproxy.cfg", "\n".join(lines) + "\n")
        self.spawn([shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-f", self.path("haproxy.cfg")])

    def watch(self, fleet):
        fleet.watch(self.log, self.read_log)

    def read_log(self, sock):
        while True:
            try:
                line = sock.recv(4096)
            except BlockingIOError:
                return
            found = self.LINE.search(line)
            if found:
                self.moves[found[1].decode()].append((time.time(), UP if found[2] == b"UP" else DOWN))


TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
SINK = "type.googleapis.com/envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink"


class Envoy(Prober):
    """A static cluster for each protocol, seen by the event log of their health checks."""

    name = "envoy"

    def __init__(self, folder, ports, settings, binary):
        super().__init__(folder)
        self.ports, self.settings, self.binary = ports, settings, binary

    def check(self, protocol):
        s = self.settings
        interval = f"{s.interval}s"
        check = {
            "timeout": f"{s.timeout}s",
            "interval": interval,
            "no_traffic_interval": interval,
            "no_traffic_healthy_interval": interval,
            "unhealthy_interval": interval,
            "initial_jitter": interval,
            "healthy_threshold": s.rise,
            "unhealthy_threshold": s.fall,
            "reuse_connection": False,
            "event_logger": [{"name": "file", "typed_config": {"@type": SINK, "event_log_path": self.path("events")}}],
        }
        if protocol == "tcp":
            return check | {"tcp_health_check": {}}
        http = {
            "host": "members",
            "path": "/",
            "expected_statuses": [{"start": 200, "end": 201}],
            # Without this one bad status takes a host out, whatever the threshold.
            "retriable_statuses": [{"start": 100, "end": 200}, {"start": 201, "end": 600}],
        }
        return check | {"http_health_check": http}

    def cluster(self, protocol):
        endpoint = lambda port: {
            "endpoint": {"address": {"socket_address": {"address": port.address, "port_value": PORT[0]}}}
        }
        ports = [port for port in self.ports if port.protocol == protocol]
        assignment = {"cluster_name": protocol, "endpoints": [{"lb_endpoints": list(map(endpoint, ports))}]}
        tls = {"transport_socket": {"name": "tls", "typed_config": {"@type": TLS}}} if protocol == "https" else {}
        return tls | {
            "name": protocol,
            "type": "STATIC",
            "connect_timeout": f"{self.settings.timeout}s",
            "load_assignment": assignment,
            "health_checks": [self.check(protocol)],
        }

    def start(self):
        clusters = [self.cluster(protocol) for protocol in PROTOCOLS]
        self.write("envoy.json", json.dumps({"static_resources": {"clusters": clusters}}))
        options = ["--concurrency", "1", "--disable-hot-restart", "--file-flush-interval-msec", "200", "-l", "warn"]
        self.spawn([self.binary, "-c", self.path("envoy.json"), *options])

    def finish(self):
        if not os.path.exists(self.path("events")):
            return
        with open(self.path("events"), encoding="utf-8") as log:
            for line in log:
                event = json.loads(line)
                verdict = UP if "add_healthy_event" in event else DOWN if "eject_unhealthy_event" in event else None
                if verdict:
                    address = event["host"]["socket_address"]["address"]
                    self.moves[address].append((moment_of(event["timestamp"]), verdict))


PROTOCOLS = ("http", "https", "tcp")
# The port of every member, chosen by the run.
PORT = [0]
