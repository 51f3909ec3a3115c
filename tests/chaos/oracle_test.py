"""The oracle against verdicts made right and wrong by hand: it must be able to fail."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from members import FAIL, MAYBE, PASS
from oracle import DOWN, RULES, UNKNOWN, UP, Comparison, Truth


def probes(letters):
    """One probe a second from 100 s on, each answered within 10 ms."""
    outcomes = {"p": PASS, "f": FAIL, "?": MAYBE}
    return [(100.0 + at, 100.01 + at, 100.01 + at, outcomes[letter]) for at, letter in enumerate(letters)]


def compare(letters, observed, prober="vitald"):
    rule = RULES[prober]
    comparison = Comparison()
    truth = Truth(probes(letters), rule, 2, 3)
    comparison.add("member", truth, observed, rule.initial, 99.0, 100.0 + len(letters))
    return comparison


class Oracle(unittest.TestCase):
    RIGHT = [(101.02, UP), (106.02, DOWN)]
    LETTERS = "ppppffffff"

    def test_right_verdicts_pass(self):
        comparison = compare(self.LETTERS, self.RIGHT)
        self.assertEqual((comparison.false, comparison.missed, comparison.unfounded), (0, 0, 0))
        self.assertEqual(comparison.moves, 2)

    def test_a_verdict_too_early_too_late_or_never(self):
        for observed in ([(101.02, UP), (105.02, DOWN)], [(101.02, UP), (107.5, DOWN)], [(101.02, UP)]):
            comparison = compare(self.LETTERS, observed)
            self.assertEqual(comparison.missed, 1, observed)
            self.assertGreater(comparison.false, 0, observed)

    def test_a_change_without_a_reason(self):
        comparison = compare("pppppppppp", [(101.02, UP), (105.0, DOWN), (105.1, UP)])
        self.assertEqual((comparison.missed, comparison.unfounded), (0, 2))

    def test_interleaved_results_move_nothing(self):
        self.assertEqual(compare("ppffpffpff", [(101.02, UP)]).moves, 1)

    def test_what_cannot_be_known_allows_both(self):
        letters = "ppff?fff"
        for observed in ([(101.02, UP), (104.02, DOWN)], [(101.02, UP), (107.02, DOWN)]):
            comparison = compare(letters, observed)
            self.assertEqual((comparison.false, comparison.missed, comparison.unfounded), (0, 0, 0), observed)
            self.assertGreater(comparison.open_moments, 0)

    def test_each_prober_begins_in_its_own_way(self):
        self.assertEqual(compare("fffff", [(102.02, DOWN)]).false, 0)
        self.assertEqual(compare("fffff", [(100.02, DOWN)], "haproxy").false, 0)
        self.assertEqual(compare("fpfff", [(100.02, DOWN)], "haproxy").false, 0)
        self.assertEqual(compare("ppfff", [(100.02, UP), (104.02, DOWN)], "envoy").false, 0)
        self.assertEqual(compare("fpp", [(102.02, UP)], "envoy").false, 0)
        self.assertEqual(RULES["vitald"].initial, UNKNOWN)

    def test_probes_the_prober_did_not_judge_count_for_nothing(self):
        truth = Truth(probes("ppffff"), RULES["vitald"], 2, 3, {102.0})
        self.assertEqual([verdict for *_, verdict in truth.moves], [UP, DOWN])
        self.assertAlmostEqual(truth.moves[1][1], 105.36, places=2)


if __name__ == "__main__":
    unittest.main()
