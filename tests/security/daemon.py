"""Running vitald for the security checks: used by the scripts beside it."""

import os
import random
import signal
import socket
import subprocess
import time
import urllib.request


def run(command):
    """A command's output; its failure is ours."""
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode()


def free_address():
    """A loopback address that nobody else uses, with a free port."""
    host = f"127.{random.randint(20, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


def wait_until(what, condition, seconds=30):
    deadline = time.time() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.time() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.05)


def fetch(url):
    """The text of an answer; empty while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


class Daemon:
    """`vitald run`, behind any command that starts it."""

    def __init__(self, command, config_path, config, seen_as=None, pass_fds=(), env=None):
        with open(config_path, "w", encoding="utf-8") as file:
            file.write(config)
        self.log_path = config_path + ".log"
        with open(self.log_path, "wb") as log:
            arguments = ["run", "--log-format", "text", "--config", seen_as or config_path]
            self.process = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=pass_fds,
                env=env,
            )

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if kind:
            print(self.log())

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def is_running(self):
        assert self.process.poll() is None, f"vitald ended with {self.process.returncode}:\n{self.log()}"
        return True

    def wait_for_port(self, address):
        host, port = address.rsplit(":", 1)

        def answers():
            self.is_running()
            with socket.socket() as client:
                return client.connect_ex((host, int(port))) == 0

        wait_until(f"{address} to listen", answers)
