"""One nginx that answers on every loopback address, over HTTP and HTTPS."""

import ipaddress
import socket
import subprocess
import time

from . import machine

FIRST = ipaddress.IPv4Address("127.64.0.0")
HTTP_PORT = 8080
HTTPS_PORT = 8443
TLS13_PORT = 8444


def addresses(count, first=FIRST):
    """The members' addresses: one each."""
    return [str(ipaddress.IPv4Address(first) + index) for index in range(count)]


def port(protocol):
    """Where members of a protocol listen."""
    return {"https": HTTPS_PORT, "https13": TLS13_PORT}.get(protocol, HTTP_PORT)


class Nginx:
    """The members of every channel. One worker, a full handshake each time, no log.

    One port speaks TLS 1.2 and one TLS 1.3, each with one suite and one curve, so that
    every prober does the same arithmetic.
    """

    def __init__(self, program, openssl, folder, prefix=(), first=str(FIRST)):
        """`prefix` is a command that runs it elsewhere, `first` an address it has there."""
        self.program, self.openssl, self.folder = program, openssl, folder
        self.prefix, self.first = prefix, first
        self.process = None
        self.cores = None
        self._write()

    def _write(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificate = self.folder / "member.pem"
        key = self.folder / "member.key"
        subprocess.run(
            [
                self.openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-days", "30", "-subj", "/CN=member",
                "-keyout", str(key), "-out", str(self.certificate),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        (self.folder / "nginx.conf").write_text(
            f"""daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log error;
events {{ worker_connections 16384; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path temp-a; proxy_temp_path temp-b; fastcgi_temp_path temp-c;
    uwsgi_temp_path temp-d; scgi_temp_path temp-e;
    ssl_certificate {self.certificate}; ssl_certificate_key {key};
    ssl_session_cache off; ssl_session_tickets off;
    ssl_ecdh_curve X25519;
    server {{
        listen 0.0.0.0:{HTTP_PORT} backlog=65535;
        listen 0.0.0.0:{HTTPS_PORT} ssl backlog=65535;
        ssl_protocols TLSv1.2;
        ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;
        location / {{ return 200 "ok"; }}
    }}
    server {{
        listen 0.0.0.0:{TLS13_PORT} ssl backlog=65535;
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
        location / {{ return 200 "ok"; }}
    }}
}}
""",
            encoding="ascii",
        )

    @property
    def pids(self):
        """The master and its worker."""
        master = self.process.pid
        children = f"/proc/{master}/task/{master}/children"
        with open(children, encoding="ascii") as file:
            return [master, *map(int, file.read().split())]

    def start(self, cores=None):
        """Starts it on these cores, or on those of last time, and waits until it accepts."""
        self.cores = cores or self.cores
        self.process = subprocess.Popen(
            [*self.prefix, self.program, "-p", str(self.folder), "-c", "nginx.conf", "-e", "error.log"],
            preexec_fn=lambda: machine.pin(self.cores),
            stdin=subprocess.DEVNULL,
        )
        for _ in range(500):
            try:
                socket.create_connection((self.first, HTTP_PORT), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.01)
        raise RuntimeError(f"nginx does not listen; see {self.folder}/error.log")

    def stop(self):
        """Ends it: from now on its ports refuse."""
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None
