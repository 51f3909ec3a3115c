"""A network namespace of our own.

Its connection counters count nothing but the prober, its ports are all free,
and packets can be dropped in it without harm. Everything the harness starts
inherits it.
"""

import os
import subprocess
import sys

MARK = "VITALD_PROBE_COST_INSIDE"


def enter():
    """Starts this script again inside a namespace, unless it is in one."""
    if os.environ.get(MARK):
        return
    command = ["unshare", "--net"]
    if os.geteuid() != 0:
        command += ["--user", "--map-root-user"]
    os.environ[MARK] = "1"
    inner = 'ip link set lo up && exec "$@"'
    command += ["sh", "-c", inner, "sh", sys.executable, *sys.argv]
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        sys.exit("unshare is missing (package util-linux)")


def inside():
    """Whether `enter` has done its work."""
    return bool(os.environ.get(MARK))


def tune():
    """Lifts limits that the target would meet before the prober."""
    for name, value in [("core/somaxconn", 65535), ("ipv4/tcp_max_syn_backlog", 65535)]:
        try:
            with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
                file.write(str(value))
        except OSError:
            pass  # A smaller backlog shows as failed probes, and those are reported.


def ip(*words):
    """Runs ip(8)."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
