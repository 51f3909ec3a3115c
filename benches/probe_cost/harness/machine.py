"""Processor time, memory and connections, as the kernel counts them."""

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK = 1.0 / os.sysconf("SC_CLK_TCK")


INSTALLED = "as installed"
PINNED = "pinned"


@dataclass(frozen=True)
class Placing:
    """Which cores a prober and everything beside it may use."""

    name: str
    prober: frozenset
    target: frozenset

    @property
    def pinned(self):
        """Whether the prober has one core, and so one thread."""
        return self.name == PINNED

    @classmethod
    def choose(cls, name):
        """As installed: all cores for everyone. Pinned: the first core for the prober, the second beside it."""
        usable = sorted(os.sched_getaffinity(0))
        if name == INSTALLED:
            return cls(name, frozenset(usable), frozenset(usable))
        return cls(name, frozenset(usable[:1]), frozenset([usable[1 % len(usable)]]))


@dataclass(frozen=True)
class Reading:
    """Counters of one process, and of the namespace, at one moment."""

    at: float
    run_ns: int
    user_ticks: int
    system_ticks: int
    opens: int
    wakes: int = 0


@dataclass(frozen=True)
class Sample:
    """What happened between two readings."""

    seconds: float
    cpu_s: float
    user_s: float
    system_s: float
    opens: int
    wakes: int = 0

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
            wakes=last.wakes - first.wakes,
        )


def read(pid):
    """Reads all counters of a process."""
    user, system = ticks(pid)
    return Reading(
        at=time.monotonic(),
        run_ns=run_time(pid),
        user_ticks=user,
        system_ticks=system,
        opens=opens(),
        wakes=wakes(pid),
    )


def run_time(pid):
    """Nanoseconds that the threads of a process have run."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # The thread has just ended.
            total += int((thread / "schedstat").read_text().split()[0])
    return total


def wakes(pid):
    """How often the threads of a process gave the processor back to wait."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            for line in (thread / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    total += int(line.split()[1])
    return total


# More than this share of a core in other hands, and times say more about them than about probers.
MOST_BESIDE = 0.05


@dataclass(frozen=True)
class Beside:
    """What processes that do not belong to the measurement, and the host, have used at one moment."""

    at: float
    run_ns: dict
    steal_ticks: int

    @classmethod
    def read(cls, own):
        """`own` are the processes of the measurement; this script is always one."""
        run_ns = {}
        mine = {os.getpid(), *own}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in mine:
                continue
            with suppress(OSError, ValueError, IndexError):
                # Threads of the kernel work for whoever sends packets: for the measurement itself.
                if not (entry / "cmdline").read_bytes():
                    continue
                run_ns[int(entry.name)] = run_time(entry.name)
        first = Path("/proc/stat").read_text().splitlines()[0].split()
        return cls(at=time.monotonic(), run_ns=run_ns, steal_ticks=int(first[8]))

    def until(self, last):
        """Cores in use by others between two moments. A process that ended meanwhile is not in it."""
        ran = sum(run - self.run_ns.get(pid, 0) for pid, run in last.run_ns.items())
        stolen = (last.steal_ticks - self.steal_ticks) * TICK
        return (ran / 1e9 + stolen) / (last.at - self.at)


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


def pin(cores):
    """For `preexec_fn`: keeps a process to these cores, with as many files as it may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, cores)


def describe():
    """The machine in one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{len(os.sched_getaffinity(0))} cores, {model}, Linux {os.uname().release}"
