"""The arithmetic behind the figures: `python3 -m unittest discover benches/probe_cost`."""

import struct
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import arrivals, machine, metrics, plot, report  # noqa: E402

MS = 1_000_000


def result(prober, number, cpu_us, memory_kib=1024, others=0.0):
    return report.Result(
        prober=prober,
        placing=machine.PINNED,
        protocol="tcp",
        round=number,
        members=10,
        healthy=10,
        asked_per_second=100,
        probes_per_second=100,
        cpu_us=cpu_us,
        user_us=1,
        system_us=cpu_us - 1,
        memory_kib=memory_kib,
        wakes_per_second=100,
        others=others,
    )


class Arrivals(unittest.TestCase):
    def test_lateness_counts_from_the_most_punctual_arrival(self):
        times = {"a": [3 * MS, 100 * MS, 205 * MS], "b": [50 * MS, 150 * MS, 250 * MS]}
        late, missed = arrivals.lateness(times, 100 * MS)
        self.assertEqual(late, [0, 0, 0, 0, 3 * MS, 5 * MS])
        self.assertEqual(missed, 0)

    def test_an_empty_slot_is_missed_and_an_extra_arrival_is_none(self):
        times = {"a": [0, 100 * MS, 300 * MS, 400 * MS], "b": [0, 100 * MS, 101 * MS, 200 * MS]}
        late, missed = arrivals.lateness(times, 100 * MS)
        self.assertEqual(missed, 1)
        self.assertEqual(late[-1], 1 * MS)

    def test_bins_hold_what_falls_into_the_period(self):
        times = {"a": [9, 10, 19, 20, 39, 40]}
        self.assertEqual(arrivals.bins(times, 10, 40, 10), [2, 1, 1])

    def test_the_filter_is_whole_instructions_for_the_port(self):
        code, length = arrivals.first_packets_to(8443)
        self.assertEqual(len(code), 8 * length)
        self.assertIn(struct.pack("HBBI", 0x15, 0, 1, 8443), code)


class Report(unittest.TestCase):
    def test_ratios_compare_within_a_round(self):
        results = [
            *(result("vitald", number, cpu) for number, cpu in enumerate([40, 80, 44])),
            *(result("haproxy", number, cpu) for number, cpu in enumerate([40, 40, 40])),
        ]
        self.assertEqual(report.ratios(results, "cpu_us"), {(machine.PINNED, "tcp", "haproxy"): 1.1})
        rows = {row["prober"]: row for row in report.medians(results)}
        self.assertEqual(rows["vitald"]["cpu_us"], 44)

    def test_goals_are_reached_or_missed_by_their_limit(self):
        text = report.verdicts([result("vitald", 0, 28), result("haproxy", 0, 40), result("haproxy-1", 0, 30)])
        self.assertIn("CPU per probe against haproxy: 0.70, at most 0.70: reached", text)
        self.assertIn("CPU per probe against haproxy-1: 0.93, at most 0.70: MISSED", text)

    def test_a_round_with_others_on_the_machine_is_in_no_ratio(self):
        results = [
            *(result("vitald", number, cpu) for number, cpu in enumerate([40, 40])),
            result("haproxy", 0, 80, others=0.06),
            result("haproxy", 1, 50),
        ]
        self.assertEqual(report.ratios(results, "cpu_us"), {(machine.PINNED, "tcp", "haproxy"): 0.8})
        self.assertIn("1 of 4 measurements are in no ratio", report.table(report.medians(results), results))
        noisy = [result("vitald", 0, 40, others=0.5), result("haproxy", 0, 80)]
        self.assertEqual(report.ratios(noisy, "cpu_us"), {})
        self.assertIn("not measured on a quiet machine", report.verdicts(noisy))

    def test_what_others_ran_counts_from_their_start_and_without_ours(self):
        before = machine.Beside(at=0.0, run_ns={7: 1_000_000_000}, steal_ticks=0)
        after = machine.Beside(at=2.0, run_ns={7: 1_200_000_000, 8: 300_000_000}, steal_ticks=0)
        self.assertAlmostEqual(before.until(after), 0.25)


class Metrics(unittest.TestCase):
    BEFORE = 'lag_bucket{le="0.001"} 10\nlag_bucket{le="+Inf"} 10\nup{a="x\\"y",b="1"} 2\nup{a="z",b="1"} 3\n'
    AFTER = 'lag_bucket{le="0.001"} 19\nlag_bucket{le="+Inf"} 20\n'

    def test_labels_choose_what_is_summed(self):
        samples = list(metrics.parse(self.BEFORE))
        self.assertEqual(metrics.total(samples, "up", b="1"), 5)
        self.assertEqual(metrics.total(samples, "up", a="z"), 3)

    def test_a_histograms_growth_as_shares(self):
        before, after = list(metrics.parse(self.BEFORE)), list(metrics.parse(self.AFTER))
        self.assertEqual(metrics.shares(before, after, "lag"), {"1 ms": 0.9, "inf ms": 1.0})


class Samples(unittest.TestCase):
    def test_the_exact_clock_is_split_by_the_ticks(self):
        first = machine.Reading(at=0.0, run_ns=0, user_ticks=0, system_ticks=0, opens=5)
        last = machine.Reading(at=2.0, run_ns=10**9, user_ticks=25, system_ticks=75, opens=105)
        sample = machine.Sample.between(first, last)
        self.assertEqual((sample.cpu_s, sample.user_s, sample.system_s, sample.opens), (1.0, 0.25, 0.75, 100))


class Plot(unittest.TestCase):
    def test_every_point_is_drawn(self):
        panel = plot.Panel("cost", "us", {"one": [(1000, 5.0), (100000, 50.0)], "two": [(1000, 7.0)]})
        svg = plot.draw([panel])
        self.assertEqual(svg.count("<circle"), 3)
        self.assertEqual(svg.count("<polyline"), 2)


if __name__ == "__main__":
    unittest.main()
