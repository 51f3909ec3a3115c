"""Processor time, memory and connections, as the kernel counts them."""

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """Who runs where: the prober alone on one core, everything else beside it."""

    prober: int
    target: int

    @classmethod
    def choose(cls):
        """The first two cores that we may use, or one for both."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(prober=usable[0], target=usable[1 % len(usable)])


@dataclass(frozen=True)
class Reading:
    """Counters of one process, and of the namespace, at one moment."""

    at: float
    run_ns: int
    user_ticks: int
    system_ticks: int
    opens: int


@dataclass(frozen=True)
class Sample:
    """What happened between two readings."""

    seconds: float
    cpu_s: float
    user_s: float
    system_s: float
    opens: int

    @classmethod
    def between(cls, first, last):
        cpu = (last.run_ns - first.run_ns) / 1e9
        user = last.user_ticks - first.user_ticks
        system = last.system_ticks - first.system_ticks
        share = user / (user + system) if user + system else 0.0
        return cls(
            seconds=last.at - first.at,
            cpu_s=cpu,
            # The scheduler's clock is exact, its split in two comes in ticks.
            user_s=cpu * share,
            system_s=cpu * (1 - share),
            opens=last.opens - first.opens,
        )


def read(pid):
    """Reads all counters of a process."""
    user, system = ticks(pid)
    return Reading(
        at=time.monotonic(), run_ns=run_time(pid), user_ticks=user, system_ticks=system, opens=opens()
    )


def run_time(pid):
    """Nanoseconds that the threads of a process have run."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # The thread has just ended.
            total += int((thread / "schedstat").read_text().split()[0])
    return total


def ticks(pid):
    """User and system time in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def opens():
    """Connections opened actively in this network namespace."""
    rows = [line.split() for line in Path("/proc/self/net/snmp").read_text().splitlines()]
    names, values = [row for row in rows if row[0] == "Tcp:"]
    return int(values[names.index("ActiveOpens")])


def memory_kib(pid, field="VmRSS"):
    """A field of /proc/PID/status: VmRSS now, VmHWM at its highest."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


def forget_peak(pid):
    """Lets VmHWM start again from the memory used now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def pin(core):
    """For `preexec_fn`: keeps a process to one core, with as many files as it may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {core})


def describe():
    """The machine in one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{len(os.sched_getaffinity(0))} cores, {model}, Linux {os.uname().release}"
