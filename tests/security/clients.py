"""What attacks and witnesses share: accounts, requests from chosen addresses, a witness,
members that answer. Used by the scripts `fair_shares` and `hangs`.
"""

import asyncio
import hashlib
import hmac
import json
import os
import socket
import subprocess
import time
import urllib.request

PROJECT, INSTANCE = "0123456789abcdef0123456789abcdef", "eddc4d25480b4cd6b512f270a1b8b341"
ACCESS_KEY, SECRET_KEY, PASSWORD = "WITNESSAK0000001", "a-secret-key-of-some-length", "correct horse"

CHECK = """
[channels.vpc_health_config]
protocol = "HTTP"
path = "/"
http_code = "200"
threshold_normal = 1
threshold_abnormal = 1
time_interval = "1s"
timeout = "900ms"
"""


def accounts(password_hash):
    """The API, an administrator and an access key; its secret is what `write_secret` wrote."""
    return f"""[api]
project = {{ id = "{PROJECT}", name = "local" }}
[[api.instances]]
id = "{INSTANCE}"
[[api.users]]
name = "ops"
role = "admin"
password_hash = "{password_hash}"
[[api.access_keys]]
id = "{ACCESS_KEY}"
role = "admin"
secret_file = "secret"
"""


def write_secret(folder):
    path = os.path.join(folder, "secret")
    with open(path, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(SECRET_KEY)


def hash_of(binary):
    done = subprocess.run([binary, "hash-password"], input=PASSWORD.encode(), capture_output=True, timeout=60, check=True)
    return done.stdout.decode().strip()


def source_of(number):
    """The number-th address of the attackers."""
    return f"127.77.{number // 250}.{number % 250 + 1}"


def ask(address, source, head, body=b"", seconds=20):
    """Status and body of an answer, asked from an address."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), seconds, (source, 0)) as stream:
        stream.sendall(f"{head}\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode() + body)
        answer = b""
        while piece := stream.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), head, body


def witness(address, source, seconds, answers):
    """Asks /livez again and again; sends the times, and what was wrong."""
    times, wrong, end = [], [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        try:
            status, _, _ = ask(address, source, "GET /livez HTTP/1.1", seconds=5)
            if status != 200:
                wrong.append(f"status {status}")
        except OSError as error:
            wrong.append(f"{type(error).__name__}: {error}")
        times.append(time.monotonic() - began)
        time.sleep(max(0.0, 0.05 - (time.monotonic() - began)))
    answers.put((times, wrong))


def log_in(address, source, password):
    body = json.dumps({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": "ops", "domain": {"name": "local"}, "password": password}}},
        "scope": {"project": {"name": "local"}}}}).encode()
    head = f"POST /v3/auth/tokens HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return ask(address, source, head, body)


def signed(address, path, body, secret_key):
    """The head of a signed POST."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = "host;x-sdk-date"
    canonical = f"POST\n{path}/\n\nhost:{address}\nx-sdk-date:{date}\n\n{names}\n{hashlib.sha256(body).hexdigest()}"
    text = f"SDK-HMAC-SHA256\n{date}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).hexdigest()
    authorization = f"SDK-HMAC-SHA256 Access={ACCESS_KEY}, SignedHeaders={names}, Signature={signature}"
    return (f"POST {path} HTTP/1.1\r\nX-Sdk-Date: {date}\r\nAuthorization: {authorization}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}")


async def serve_members(backend, count):
    async def answer(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    host, port = backend.rsplit(":", 1)
    servers = [await asyncio.start_server(answer, host, int(port) + index) for index in range(count)]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def members(backend, count):
    """Serves so many members, on ports beside each other, for ever."""
    asyncio.run(serve_members(backend, count))


def metrics(address):
    """Adds up the figures of the series whose lines begin with a text."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return lambda name: sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))
