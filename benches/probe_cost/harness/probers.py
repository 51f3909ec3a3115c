"""Everyone who probes: how each is configured, started, and asked for its verdicts.

All probe the same members at the same interval with a new connection each time.
As installed each has the threads that it takes by default; pinned, one thread on
one core.
"""

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

from . import machine, metrics, programs


@dataclass(frozen=True)
class Work:
    """What is probed, and how often."""

    protocol: str
    members: list
    interval: float
    port: int
    close: str = "reset"

    @property
    def rate(self):
        return len(self.members) / self.interval

    @property
    def timeout(self):
        return min(1.0, self.interval)


class Prober:
    """A process that probes. Subclasses say what to run and how to ask it."""

    name = ""
    protocols = ("tcp", "http", "https", "https13")
    placings = (machine.INSTALLED, machine.PINNED)

    def __init__(self, program):
        self.program = program
        self.process = None
        self.placing = None

    def command(self, work, folder):
        """Writes the configuration and returns the arguments."""
        raise NotImplementedError

    def environment(self):
        """The environment to run in; none: ours."""

    def healthy(self, work):
        """How many members it holds for healthy, or none while it does not answer."""
        raise NotImplementedError

    def start(self, work, folder, placing):
        """Starts it on its cores."""
        self.placing = placing
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command(work, folder),
                preexec_fn=lambda: machine.pin(placing.prober),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self):
        return self.process.pid

    def wait_healthy(self, work, patience):
        """Waits until every member is healthy; returns how many are at the end."""
        deadline = time.monotonic() + patience
        seen = 0
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}:\n{tail}")
            try:
                seen = self.healthy(work)
            except OSError:
                seen = 0
            if seen >= len(work.members):
                break
            time.sleep(0.25)
        return seen

    def stop(self):
        """Ends it, by force when it does not hurry."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class Vitald(Prober):
    """The daemon of this repository."""

    name = "vitald"
    listen = "127.0.0.1:9650"
    bare = False

    def command(self, work, folder):
        config = folder / "vitald.toml"
        self.write(config, work)
        return [self.program, "run", "--log-format", "json", "--config", str(config)]

    def environment(self):
        """Ours, and what the unit says, unless it is to run without."""
        if self.bare:
            return None
        unit = (programs.ROOT / "config" / "vitald.service").read_text()
        lines = [line for line in unit.splitlines() if line.startswith("Environment=")]
        pairs = [pair for line in lines for pair in line.removeprefix("Environment=").split()]
        return {**os.environ, **dict(pair.split("=", 1) for pair in pairs)}

    def write(self, path, work):
        """One channel with every member."""
        request = "" if work.protocol == "tcp" else 'path = "/"\nhttp_code = "200"'
        head = f"""[server]
listen = "{self.listen}"
[[channels]]
name = "members"
port = {work.port}
balance_strategy = 1
member_type = "ip"
probe = {{ close = "{work.close}" }}
[channels.vpc_health_config]
protocol = "{work.protocol.removesuffix("13").upper()}"
{request}
threshold_normal = 2
threshold_abnormal = 3
time_interval = "{round(work.interval * 1000)}ms"
timeout = "{round(work.timeout * 1000)}ms"
"""
        members = [f'[[channels.members]]\nhost = "{address}"\n' for address in work.members]
        path.write_text(head + "".join(members), encoding="ascii")

    def samples(self, query="?detail=channel"):
        """Its metrics."""
        return list(metrics.parse(metrics.fetch(f"http://{self.listen}/metrics{query}")))

    def healthy(self, work):
        return int(metrics.total(self.samples(), "vitald_channel_members", state="healthy"))


HAPROXY_HTTP_CHECK = """    option httpchk
    http-check send meth GET uri / ver HTTP/1.1 hdr Host member
    http-check expect status 200
"""


class Haproxy(Prober):
    """HAProxy's checks, with a thread for each core as installed."""

    name = "haproxy"
    placings = (machine.INSTALLED,)
    threads = ""

    def command(self, work, folder):
        self.socket = folder / "admin"
        check = "" if work.protocol == "tcp" else HAPROXY_HTTP_CHECK
        tls = " check-ssl verify none no-ssl-reuse" if work.protocol.startswith("https") else ""
        pace = f"check inter {round(work.interval * 1000)}ms rise 2 fall 3"
        servers = "".join(
            f"    server s{index} {address}:{work.port} {pace}{tls}\n"
            for index, address in enumerate(work.members)
        )
        config = folder / "haproxy.cfg"
        config.write_text(
            f"""global
{self.threads}    stats socket {self.socket} mode 600
defaults
    mode tcp
    timeout connect 1s
    timeout check {round(work.timeout * 1000)}ms
    timeout client 5s
    timeout server 5s
backend members
{check}{servers}""",
            encoding="ascii",
        )
        # Without -db it would leave for the background.
        return [self.program, "-q", "-db", "-f", str(config)]

    def healthy(self, work):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(str(self.socket))
            control.sendall(b"show stat -1 4 -1\n")
            answer = b"".join(iter(lambda: control.recv(1 << 16), b"")).decode()
        rows = [line.split(",") for line in answer.splitlines() if line]
        status = rows[0].index("status")
        check = rows[0].index("check_status")
        # A server counts as up before its first check.
        return sum(
            row[status] == "UP" and row[check].lstrip("* ").endswith("OK")
            for row in rows[1:]
            if len(row) > check
        )


class HaproxyOneThread(Haproxy):
    """HAProxy's checks on one thread."""

    name = "haproxy-1"
    placings = (machine.INSTALLED, machine.PINNED)
    threads = "    nbthread 1\n"


ENVOY_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


class Envoy(Prober):
    """Envoy's active health checks; they run on its main thread."""

    name = "envoy"
    admin = ("127.0.0.1", 9901)

    def command(self, work, folder):
        interval = f"{work.interval:.3f}s"
        check = {
            "timeout": f"{work.timeout:.3f}s",
            "interval": interval,
            # Without traffic, and on the way up or down, it would use others.
            "no_traffic_interval": interval,
            "unhealthy_interval": interval,
            # Without it every first check goes out at once, and so do all later ones.
            "initial_jitter": interval,
            "healthy_threshold": 2,
            "unhealthy_threshold": 3,
            "reuse_connection": False,
        }
        if work.protocol == "tcp":
            check["tcp_health_check"] = {}
        else:
            check["http_health_check"] = {"host": "member", "path": "/"}
        cluster = {
            "name": "members",
            "type": "STATIC",
            "connect_timeout": "1s",
            "health_checks": [check],
            "load_assignment": {
                "cluster_name": "members",
                "endpoints": [{"lb_endpoints": [endpoint(address, work.port) for address in work.members]}],
            },
        }
        if work.protocol.startswith("https"):
            cluster["transport_socket"] = {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": ENVOY_TLS,
                    # A full handshake each time.
                    "max_session_keys": 0,
                    # As a client it stops at TLS 1.2 by default.
                    "common_tls_context": {"tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}},
                },
            }
        config = folder / "envoy.json"
        config.write_text(
            json.dumps(
                {
                    "admin": {"address": socket_address(*self.admin)},
                    "static_resources": {"clusters": [cluster]},
                }
            ),
            encoding="ascii",
        )
        threads = ["--concurrency", "1"] if self.placing.pinned else []
        return [
            self.program, "--config-path", str(config), *threads,
            "--log-level", "error", "--disable-hot-restart",
        ]  # fmt: skip

    def healthy(self, work):
        url = "http://{}:{}/stats?filter=cluster.members.membership_healthy".format(*self.admin)
        answer = metrics.fetch(url)
        return int(answer.partition(":")[2] or 0)


def socket_address(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def endpoint(host, port):
    return {"endpoint": {"address": socket_address(host, port)}}


class Blackbox(Prober):
    """blackbox_exporter, asked for one /probe after another over kept connections."""

    name = "blackbox"
    listen = ("127.0.0.1", 9115)
    # It cannot keep the others' rate on one core: this is what it is asked for.
    most_per_second = 200
    # Each request waits for its probe.
    connections = 8

    def command(self, work, folder):
        config = folder / "blackbox.yml"
        config.write_text(
            "modules:\n"
            "  tcp: { prober: tcp, timeout: 1s, tcp: { preferred_ip_protocol: ip4 } }\n"
            "  http: { prober: http, timeout: 1s, http: { preferred_ip_protocol: ip4, "
            "valid_status_codes: [200], tls_config: { insecure_skip_verify: true } } }\n",
            encoding="ascii",
        )
        return [
            self.program, "--config.file", str(config), "--log.level", "error",
            "--web.listen-address", "{}:{}".format(*self.listen),
        ]  # fmt: skip

    def environment(self):
        return {**os.environ, "GOMAXPROCS": "1"} if self.placing.pinned else None

    def start(self, work, folder, placing):
        super().start(work, folder, placing)
        self.found = set()
        self.ending = threading.Event()
        self.askers = [
            threading.Thread(target=self._ask, args=(work, number), daemon=True)
            for number in range(self.connections)
        ]
        for asker in self.askers:
            asker.start()

    def _ask(self, work, number):
        module = "tcp" if work.protocol == "tcp" else "http"
        scheme = {"tcp": "", "http": "http://"}.get(work.protocol, "https://")
        pause = self.connections / min(self.most_per_second, work.rate)
        mine = work.members[number :: self.connections]
        client = http.client.HTTPConnection(*self.listen, timeout=5)
        turn = 0
        due = time.monotonic() + pause * number / self.connections
        while not self.ending.wait(max(0.0, due - time.monotonic())):
            address = mine[turn % len(mine)]
            try:
                client.request("GET", f"/probe?module={module}&target={scheme}{address}:{work.port}")
                answer = client.getresponse().read()
            except OSError:
                client.close()
                due = time.monotonic() + 0.1
                continue
            if b"\nprobe_success 1\n" in answer:
                self.found.add(address)
            else:
                self.found.discard(address)
            turn += 1
            due += pause

    def healthy(self, work):
        return len(self.found)

    def stop(self):
        if self.process is not None:
            self.ending.set()
            for asker in self.askers:
                asker.join()
        super().stop()


class Floor(Prober):
    """A raw epoll program: what the kernel's share costs alone.

    It wakes for about 32 probes at a time, at most 10 ms and a fiftieth of the interval
    apart, as the daemon may.
    """

    name = "floor"
    protocols = ("tcp", "http")

    def command(self, work, folder):
        self.output = folder / "log"
        return [
            self.program, work.protocol, work.members[0], str(len(work.members)), str(work.port),
            str(round(work.interval * 1000)), str(wake_us(work)),
        ]  # fmt: skip

    def healthy(self, work):
        lines = self.output.read_text(encoding="ascii").splitlines()
        return int(lines[-1].split()[0]) if lines else 0


def wake_us(work):
    """Microseconds between two wakes of the floor."""
    return round(min(32 / work.rate, 0.010, work.interval / 50) * 1e6)


def find(name, options):
    """A prober by name, its program installed or built."""
    if name == "vitald":
        return Vitald(programs.vitald(options.vitald))
    if name == "haproxy":
        return Haproxy(programs.need("haproxy"))
    if name == "haproxy-1":
        return HaproxyOneThread(programs.need("haproxy"))
    if name == "envoy":
        return Envoy(programs.envoy())
    if name == "blackbox":
        return Blackbox(programs.need("prometheus-blackbox-exporter"))
    if name == "floor":
        return Floor(programs.floor())
    raise SystemExit(f'there is no prober called "{name}": haproxy, haproxy-1, envoy, blackbox, floor')
