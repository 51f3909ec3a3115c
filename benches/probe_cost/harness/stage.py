"""Where a measurement takes place: a namespace, cores, a folder, one nginx."""

import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from . import machine, probers, programs, sandbox, target
from .far import FIRST, FarSide


@dataclass(frozen=True)
class Stage:
    """Handed to a measurement by `open_stage`."""

    folder: Path
    placing: machine.Placing
    machine: str
    nginx: target.Nginx
    everyone: list
    far: Optional[FarSide]

    def place(self, placing):
        """Moves everything beside the prober to the cores that it may use."""
        self.nginx.stop()
        self.nginx.start(placing.target)
        os.sched_setaffinity(0, placing.target)


@contextmanager
def open_stage(names, options, far=False):
    """Installs and builds what these probers need, then enters the namespace.

    `options` are the script's; of them only `vitald` and `pinned` are read here. With
    `far` the target has a namespace of its own, which can be cut off.
    """
    if not sandbox.inside():
        # Outside there is a network to install from.
        for name in names:
            probers.find(name, options)
        for command in ("nginx", "openssl", "ip"):
            programs.need(command)
        sandbox.enter()
    sandbox.tune()
    description = machine.describe()
    placing = machine.Placing.choose(machine.PINNED if options.pinned else machine.INSTALLED)
    with tempfile.TemporaryDirectory(prefix="probe-cost-") as scratch:
        folder = Path(scratch)
        side = FarSide() if far else None
        place = {"prefix": side.enter, "first": FIRST} if side else {}
        nginx = target.Nginx(
            programs.need("nginx"), programs.need("openssl"), folder / "nginx", **place
        )
        nginx.start(placing.target)
        machine.pin(placing.target)
        everyone = [probers.find(name, options) for name in names]
        try:
            yield Stage(folder, placing, description, nginx, everyone, side)
        finally:
            for prober in everyone:
                prober.stop()
            nginx.stop()
            if side:
                side.close()


def add_vitald(parser):
    """The options every script has."""
    parser.add_argument(
        "--pinned",
        action="store_true",
        help="one core and one thread for a prober, all else on another core; default: as installed, "
        "where all may use all cores",
    )
    parser.add_argument("--vitald", metavar="PATH", help="default: this tree, built for release")
