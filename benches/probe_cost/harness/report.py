"""Medians, ratios, goals and tables."""

from dataclasses import dataclass
from statistics import median

from . import machine


@dataclass(frozen=True)
class Result:
    """One prober in one round."""

    prober: str
    placing: str
    protocol: str
    round: int
    members: int
    healthy: int
    asked_per_second: float
    probes_per_second: float
    cpu_us: float
    user_us: float
    system_us: float
    memory_kib: int
    wakes_per_second: float
    others: float

    @property
    def quiet(self):
        """Whether the machine had next to nothing else to do."""
        return self.others <= machine.MOST_BESIDE


# Ours against whom, at most so many times. As installed HAProxy has a thread for each core.
GOALS = {
    ("tcp", "cpu_us"): [("haproxy", 0.70), ("haproxy-1", 0.70)],
    ("http", "cpu_us"): [("haproxy", 0.70), ("haproxy-1", 0.70)],
    ("https", "cpu_us"): [("envoy", 0.70)],
    ("https13", "cpu_us"): [("envoy", 0.70)],
    ("tcp", "memory_kib"): [("haproxy", 0.5), ("haproxy-1", 0.5)],
    ("http", "memory_kib"): [("haproxy", 0.5), ("haproxy-1", 0.5)],
}


def medians(results):
    """One row for each protocol and prober, in the order they first appear."""
    groups = {}
    for result in results:
        groups.setdefault((result.placing, result.protocol, result.prober), []).append(result)
    rows = []
    for (placing, protocol, prober), group in groups.items():
        cpu = [result.cpu_us for result in group]
        rows.append(
            {
                "placing": placing,
                "protocol": protocol,
                "prober": prober,
                "rounds": len(group),
                "cpu_us": median(cpu),
                "cpu_us_min": min(cpu),
                "cpu_us_max": max(cpu),
                "user_us": median(result.user_us for result in group),
                "system_us": median(result.system_us for result in group),
                "asked_per_second": group[0].asked_per_second,
                "probes_per_second": median(result.probes_per_second for result in group),
                "memory_kib": median(result.memory_kib for result in group),
                "wakes_per_second": median(result.wakes_per_second for result in group),
                "others_most": max(result.others for result in group),
                "members": group[0].members,
                "healthy_least": min(result.healthy for result in group),
            }
        )
    return rows


def ratios(results, field):
    """By placing, protocol and peer: the median over rounds of vitald against the peer in that round.

    Rounds in which the machine was not quiet do not count.
    """
    by_round = {(r.placing, r.protocol, r.round, r.prober): getattr(r, field) for r in results if r.quiet}
    found = {}
    for (placing, protocol, number, prober), value in by_round.items():
        ours = by_round.get((placing, protocol, number, "vitald"))
        if prober != "vitald" and ours is not None and value > 0:
            found.setdefault((placing, protocol, prober), []).append(ours / value)
    return {key: median(values) for key, values in found.items()}


def goals(results):
    """Each goal with what was measured: (text, ratio or none, limit)."""
    lines = []
    present = dict.fromkeys((result.placing, result.protocol) for result in results)
    probers = {(result.placing, result.prober) for result in results}
    for placing, protocol in present:
        for field, what in (("cpu_us", "CPU per probe"), ("memory_kib", "memory")):
            measured = ratios(results, field)
            for peer, limit in GOALS.get((protocol, field), []):
                if (placing, peer) in probers:
                    text = f"{placing}, {protocol}: {what} against {peer}"
                    lines.append((text, measured.get((placing, protocol, peer)), limit))
    return lines


def table(rows, results):
    """The report for a terminal; it is Markdown too."""
    cpu = ratios(results, "cpu_us")
    lines = [
        "| | protocol | prober | CPU per probe, us | range | vitald / it | wakes/s "
        "| probes/s (asked) | memory, MB | healthy |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ratio = cpu.get((row["placing"], row["protocol"], row["prober"]))
        lines.append(
            "| {placing} | {protocol} | {prober} | {cpu_us:.1f} | {cpu_us_min:.1f}-{cpu_us_max:.1f} "
            "| {ratio} | {wakes_per_second:.0f} | {probes_per_second:.0f} ({asked_per_second:.0f}) "
            "| {memory:.1f} | {healthy_least} of {members} |".format(
                ratio=f"{ratio:.2f}" if ratio else "", memory=row["memory_kib"] / 1024, **row
            )
        )
    noisy = [result for result in results if not result.quiet]
    if noisy:
        worst = max(result.others for result in noisy)
        lines.append("")
        lines.append(
            f"{len(noisy)} of {len(results)} measurements are in no ratio: other programs or the host took "
            f"more than {machine.MOST_BESIDE:.0%} of a core meanwhile, {worst:.0%} at worst."
        )
    return "\n".join(lines)


def verdicts(results):
    """The goals in words."""
    lines = []
    for text, measured, limit in goals(results):
        if measured is None:
            lines.append(f"- {text}: at most {limit:.2f}, not measured on a quiet machine")
        else:
            word = "reached" if measured <= limit else "MISSED"
            lines.append(f"- {text}: {measured:.2f}, at most {limit:.2f}: {word}")
    return "\n".join(lines)
