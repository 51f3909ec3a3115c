"""What config/vitald.service leaves a daemon, under bubblewrap: used by the scripts
beside this file."""

import os
import re
import shutil
import struct
import subprocess
import tempfile

from daemon import run

UNIT = "config/vitald.service"
SYSUSERS = "config/vitald.sysusers"
NUMBERS = ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"]
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
ALLOW, EPERM = 0x7FFF0000, 0x00050001
X86_64 = 0xC000003E
NUMBER, ARCHITECTURE = 0, 4


def settings_of_unit():
    settings = {}
    with open(UNIT, encoding="utf-8") as file:
        for line in file:
            key, equals, value = line.strip().partition("=")
            if equals and not key.startswith("#"):
                settings.setdefault(key, []).append(value)
    return settings


def calls_of(group, seen=None):
    """The system calls of a set of systemd's, sets in it included."""
    seen = seen if seen is not None else set()
    calls = set()
    for line in run(["systemd-analyze", "--no-pager", "syscall-filter", group]).splitlines()[1:]:
        word = line.strip()
        if word.startswith("@") and word not in seen:
            seen.add(word)
            calls |= calls_of(word, seen)
        elif word and not word.startswith(("@", "#")):
            calls.add(word)
    return calls


def allowed_calls(settings):
    """SystemCallFilter= as systemd reads it: later lines take away from the first."""
    allowed = set()
    for line in settings["SystemCallFilter"]:
        takes_away = line.startswith("~")
        for word in line.lstrip("~").split():
            calls = calls_of(word) if word.startswith("@") else {word}
            allowed = allowed - calls if takes_away else allowed | calls
    # systemd itself always allows what a program cannot be started without.
    return allowed | {"execve", "exit", "exit_group", "rt_sigreturn", "restart_syscall", "getrlimit", "time"}


def call_numbers():
    header = next(filter(os.path.exists, NUMBERS))
    with open(header, encoding="ascii") as file:
        return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", file.read())}


def program(settings):
    """The filter in classic BPF. A call outside the list fails with EPERM, as
    SystemCallErrorNumber= says."""
    numbers = call_numbers()
    argument = lambda place: 16 + 8 * place
    load = lambda offset: (0x20, 0, 0, offset)
    give = lambda action: (0x06, 0, 0, action)
    lines = [load(ARCHITECTURE), (0x15, 1, 0, X86_64), give(EPERM), load(NUMBER)]
    # RestrictAddressFamilies=
    families = [FAMILIES[word] for word in settings["RestrictAddressFamilies"][0].split()]
    check = [load(argument(0))]
    for family in families:
        check += [(0x15, 0, 1, family), give(ALLOW)]
    lines += [(0x15, 0, len(check) + 1, numbers["socket"]), *check, give(EPERM)]
    # MemoryDenyWriteExecute=: no page both writable and executable, none made so later.
    assert settings["MemoryDenyWriteExecute"] == ["yes"]
    check = [load(argument(2)), (0x54, 0, 0, 6), (0x15, 0, 1, 6), give(EPERM), give(ALLOW)]
    lines += [(0x15, 0, len(check), numbers["mmap"]), *check]
    check = [load(argument(2)), (0x54, 0, 0, 4), (0x15, 1, 0, 0), give(EPERM), give(ALLOW)]
    lines += [(0x15, 0, len(check), numbers["mprotect"]), *check]
    for call in sorted(allowed_calls(settings)):
        if call in numbers:
            lines += [(0x15, 0, 1, numbers[call]), give(ALLOW)]
    lines.append(give(EPERM))
    return b"".join(struct.pack("HBBI", *line) for line in lines), len(lines) // 2


class Host:
    """A machine that vitald is installed on: its directories, its users, its program."""

    def __init__(self, folder, binary):
        self.folder = folder
        self.settings = settings_of_unit()
        # The daemon's user looks for its files in here.
        os.chmod(folder, 0o755)
        self.binary = self.path("vitald")
        shutil.copy(binary, self.binary)
        self.make_users()
        # As systemd makes them. Only root can give them away; otherwise this user is the daemon's.
        user, group = self.ids["User"], self.ids["Group"]
        state, runtime = self.settings["StateDirectoryMode"][0], self.settings["RuntimeDirectoryMode"][0]
        for name, mode, owner in [
            ("etc", 0o755, (0, self.ids["SupplementaryGroups"])),
            ("state", int(state, 8), (user, group)),
            ("run", int(runtime, 8), (user, group)),
        ]:
            os.mkdir(self.path(name))
            os.chmod(self.path(name), mode)
            if os.getuid() == 0:
                os.chown(self.path(name), *owner)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def make_users(self):
        """The users and groups of config/vitald.sysusers, and their numbers."""
        os.makedirs(self.path("users", "etc"))
        with open(SYSUSERS, "rb") as file:
            command = ["systemd-sysusers", f"--root={self.path('users')}", "-"]
            subprocess.run(command, stdin=file, check=True, capture_output=True)
        numbers = {}
        for kind in ("passwd", "group"):
            with open(self.path("users", "etc", kind), encoding="utf-8") as file:
                numbers[kind] = {line.split(":")[0]: int(line.split(":")[2]) for line in file}
        self.ids = {
            "User": numbers["passwd"][self.settings["User"][0]],
            "Group": numbers["group"][self.settings["Group"][0]],
            "SupplementaryGroups": numbers["group"][self.settings["SupplementaryGroups"][0]],
        }

    def mounts(self):
        mounts = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/etc"]
        for path in ("/usr", "/lib", "/lib64", "/bin", "/etc/ssl", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts"):
            mounts += ["--ro-bind-try", path, path]
        for kind in ("passwd", "group"):
            mounts += ["--ro-bind", self.path("users", "etc", kind), f"/etc/{kind}"]
        return [*mounts, "--ro-bind", self.binary, "/opt/vitald"]

    def as_daemon(self, filter_fd):
        """ProtectSystem=strict, ProtectHome=, PrivateTmp=, PrivateDevices=, PrivateUsers=,
        CapabilityBoundingSet=, NoNewPrivileges= (bubblewrap always sets it)."""
        user, group, more = (str(self.ids[key]) for key in ("User", "Group", "SupplementaryGroups"))
        command = []
        if os.getuid() == 0:
            command += ["setpriv", "--reuid", user, "--regid", group, "--groups", more]
        command += ["bwrap", "--unshare-all", "--share-net", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        command += ["--uid", user, "--gid", group, "--clearenv", *self.mounts()]
        command += ["--ro-bind", self.path("etc"), "/etc/vitald"]
        command += ["--bind", self.path("state"), "/var/lib/vitald", "--bind", self.path("run"), "/run/vitald"]
        return [*command, "--remount-ro", "/", "--seccomp", str(filter_fd), "--", "/opt/vitald"]

    def as_root(self, line, given=""):
        """What an administrator types, with a strict umask. Its output."""
        command = ["bwrap", "--die-with-parent", "--cap-add", "ALL", *self.mounts()]
        for name, seen_as in [("etc", "/etc/vitald"), ("state", "/var/lib/vitald"), ("run", "/run/vitald")]:
            command += ["--bind", self.path(name), seen_as]
        command += ["--symlink", "/opt/vitald", "/opt/bin/vitald", "--setenv", "PATH", "/opt/bin:/usr/sbin:/usr/bin:/bin"]
        command += ["--chdir", "/tmp", "--", "sh", "-c", f"umask 077; {line}"]
        done = subprocess.run(command, input=given.encode(), capture_output=True, timeout=60, check=False)
        output = done.stdout.decode(errors="replace")
        assert done.returncode == 0, f"{line}: exit status {done.returncode}\n{output}{done.stderr.decode(errors='replace')}"
        return output

    def filter_file(self):
        """The unit's filter of system calls, to hand to a daemon; and its length."""
        code, length = program(self.settings)
        file = tempfile.TemporaryFile()
        file.write(code)
        file.seek(0)
        return file, length
