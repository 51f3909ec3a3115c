"""What the scripts of benches/probe_cost share.

| module | what it does |
|---|---|
| `sandbox` | a network namespace of our own, so that the kernel's counters are ours |
| `machine` | processor time, memory and connections as the kernel counts them |
| `programs` | finding, building or installing what is measured |
| `target` | one nginx on many loopback addresses |
| `far` | the same behind a cable that can be cut |
| `stage` | all of these together, for one measurement |
| `arrivals` | when connections arrive, by the kernel's clock |
| `probers` | vitald, its peers and the floor: configuration, start, verdicts |
| `metrics` | reading the daemon's own metrics |
| `report` | medians, ratios, goals, tables |
| `plot` | SVG |

Python 3.9 and its standard library only.
"""
