"""Medians, ratios, goals and tables."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Result:
    """One prober in one round."""

    prober: str
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


# Issue and design goals: ours against whom, at most so many times.
GOALS = {
    ("tcp", "cpu_us"): [("haproxy", 1.05), ("floor", 1.15)],
    ("http", "cpu_us"): [("haproxy", 0.90), ("floor", 1.20)],
    ("https", "cpu_us"): [("envoy", 0.75)],
    ("tcp", "memory_kib"): [("haproxy", 0.5)],
    ("http", "memory_kib"): [("haproxy", 0.5)],
}


def medians(results):
    """One row for each protocol and prober, in the order they first appear."""
    groups = {}
    for result in results:
        groups.setdefault((result.protocol, result.prober), []).append(result)
    rows = []
    for (protocol, prober), group in groups.items():
        cpu = [result.cpu_us for result in group]
        rows.append(
            {
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
                "members": group[0].members,
                "healthy_least": min(result.healthy for result in group),
            }
        )
    return rows


def ratios(results, field):
    """By protocol and peer: the median over rounds of vitald against the peer in that round."""
    by_round = {(r.protocol, r.round, r.prober): getattr(r, field) for r in results}
    found = {}
    for (protocol, number, prober), value in by_round.items():
        ours = by_round.get((protocol, number, "vitald"))
        if prober != "vitald" and ours is not None and value > 0:
            found.setdefault((protocol, prober), []).append(ours / value)
    return {key: median(values) for key, values in found.items()}


def goals(results):
    """Each goal with what was measured: (text, ratio or none, limit)."""
    lines = []
    present = {result.protocol for result in results}
    for (protocol, field), wanted in GOALS.items():
        if protocol not in present:
            continue
        measured = ratios(results, field)
        what = "CPU per probe" if field == "cpu_us" else "memory"
        for peer, limit in wanted:
            lines.append((f"{protocol} {what} against {peer}", measured.get((protocol, peer)), limit))
    return lines


def table(rows, results):
    """The report for a terminal; it is Markdown too."""
    cpu = ratios(results, "cpu_us")
    lines = [
        "| protocol | prober | CPU per probe, us | range | user | system | ours / theirs "
        "| probes/s (asked) | memory, MB | healthy |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ratio = cpu.get((row["protocol"], row["prober"]))
        lines.append(
            "| {protocol} | {prober} | {cpu_us:.1f} | {cpu_us_min:.1f}-{cpu_us_max:.1f} | {user_us:.1f} "
            "| {system_us:.1f} | {ratio} | {probes_per_second:.0f} ({asked_per_second:.0f}) "
            "| {memory:.1f} | {healthy_least} of {members} |".format(
                ratio=f"{ratio:.2f}" if ratio else "", memory=row["memory_kib"] / 1024, **row
            )
        )
    return "\n".join(lines)


def verdicts(results):
    """The goals in words."""
    lines = []
    for text, measured, limit in goals(results):
        if measured is None:
            lines.append(f"- {text}: at most {limit:.2f}, not measured")
        else:
            word = "reached" if measured <= limit else "MISSED"
            lines.append(f"- {text}: {measured:.2f}, at most {limit:.2f}: {word}")
    return "\n".join(lines)
