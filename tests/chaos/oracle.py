"""Which verdicts the thresholds allow at every moment, and how a prober compares.

The model is that of docs/vendor-api.md, "Verdicts": so many results of one kind in a
row move the verdict. A probe whose outcome cannot be known from the member's side
leaves several states possible; all of their verdicts are right until results tell
them apart.
"""

import bisect

from members import FAIL, MAYBE, PASS

UP, DOWN, UNKNOWN = "healthy", "unhealthy", "unknown"

# How much later than the answer a verdict may be seen, and how much earlier the two
# clocks' readings may lie.
ALLOWANCE = 0.35
EARLIER = 0.03


class Rule:
    """How a prober begins; afterwards all three count the same way."""

    def __init__(self, initial, first):
        self.initial = initial
        # "threshold"; "any": the first result decides; "failure": only a failure
        # does; "success": only a success does.
        self.first = first


RULES = {
    "vitald": Rule(UNKNOWN, "threshold"),
    # A server starts up and falls with its first failed check.
    "haproxy": Rule(UP, "failure"),
    # A host starts failed and is well with its first passed check.
    "envoy": Rule(DOWN, "success"),
}


def step(state, outcome, rise, fall, first):
    """One result; a state is (verdict, kind of the last result, how many in a row)."""
    verdict, kind, count = state
    limit = rise if outcome == PASS else fall
    beginning = kind is None
    count = min(count + 1, limit) if kind == outcome else 1
    at_once = beginning and first == {PASS: "success", FAIL: "failure"}[outcome]
    if count >= limit or at_once:
        verdict = UP if outcome == PASS else DOWN
    return verdict, outcome, count


class Truth:
    """The verdicts allowed over time, of one member for one prober."""

    def __init__(self, probes, rule, rise, fall, excluded=frozenset(), doubtful=frozenset()):
        """`excluded`: starts of probes that the prober itself did not judge;
        `doubtful`: of those that it may not have judged."""
        states = {(rule.initial, None, 0)}
        self.times = [0.0]
        self.allowed = [frozenset({rule.initial})]
        # Moves that must be seen: (earliest, latest, verdict).
        self.moves = []
        # Spans in which several verdicts are right.
        self.open = []
        for started, earliest, latest, outcome in probes:
            if started in excluded:
                continue
            options = (PASS, FAIL) if outcome == MAYBE else (outcome,)
            kept = states if started in doubtful else set()
            states = kept | {step(state, option, rise, fall, rule.first) for state in states for option in options}
            before, after = self.allowed[-1], frozenset(state[0] for state in states)
            if before == after:
                continue
            from_now = max(self.times[-1], earliest - EARLIER)
            self.times += [from_now, max(from_now, latest + ALLOWANCE)]
            self.allowed += [before | after, after]
            if len(before) == 1 and len(after) == 1:
                self.moves.append((earliest - EARLIER, latest + ALLOWANCE, next(iter(after))))
            elif len(before) == 1:
                self.open.append([earliest - EARLIER, float("inf")])
            elif len(after) == 1:
                self.open[-1][1] = latest + ALLOWANCE

    def at(self, moment):
        return self.allowed[max(0, bisect.bisect_right(self.times, moment) - 1)]

    def is_open(self, moment):
        return any(start <= moment <= end for start, end in self.open)


class Comparison:
    """A prober's verdicts against the truth, summed over members."""

    def __init__(self):
        self.moments = self.open_moments = 0
        self.false_up = self.false_down = self.false_other = 0
        self.moves = self.missed = self.unfounded = 0
        self.delays = []
        self.notes = []

    @property
    def false(self):
        return self.false_up + self.false_down + self.false_other

    def add(self, member, truth, observed, initial, begin, end, every=0.2):
        """`observed`: (time, verdict) in order."""
        times = [time for time, _ in observed]
        moment = begin
        while moment < end:
            place = bisect.bisect_right(times, moment) - 1
            seen = observed[place][1] if place >= 0 else initial
            allowed = truth.at(moment)
            self.moments += 1
            self.open_moments += len(allowed) > 1
            if seen not in allowed:
                self.false_up += seen == UP
                self.false_down += seen == DOWN
                self.false_other += seen == UNKNOWN
                self.note(f"{member} at {moment:.3f}: {seen}, right is {'/'.join(sorted(allowed))}")
            moment += every
        taken = [False] * len(observed)
        for earliest, latest, verdict in truth.moves:
            if not begin <= latest < end:
                continue
            self.moves += 1
            place = bisect.bisect_left(times, earliest)
            while place < len(observed) and times[place] <= latest:
                if observed[place][1] == verdict and not taken[place]:
                    taken[place] = True
                    self.delays.append(max(0.0, times[place] - (latest - ALLOWANCE)))
                    break
                place += 1
            else:
                self.missed += 1
                self.note(f"{member}: no change to {verdict} between {earliest:.3f} and {latest:.3f}")
        for (time, verdict), used in zip(observed, taken):
            early = [move for move in truth.moves if move[0] <= time <= move[1] and move[1] >= end]
            if begin <= time < end and not used and not early and not truth.is_open(time):
                self.unfounded += 1
                self.note(f"{member}: changed to {verdict} at {time:.3f} without a reason")

    def note(self, text):
        if len(self.notes) < 20:
            self.notes.append(text)

    def delay(self, share):
        ordered = sorted(self.delays)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
