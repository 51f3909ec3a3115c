"""Reading the daemon's own metrics."""

import re
import urllib.request

LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def fetch(url, timeout=10):
    """A body as text. Never through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=timeout) as answer:
        return answer.read().decode()


def parse(text):
    """Samples as (name, labels, value)."""
    for line in text.splitlines():
        match = LINE.match(line)
        if match:
            name, labels, value = match.groups()
            yield name, dict(LABEL.findall(labels or "")), float(value)


def total(samples, name, **labels):
    """The sum of a series over everything but these labels."""
    return sum(
        value
        for own, found, value in samples
        if own == name and all(found.get(key) == wanted for key, wanted in labels.items())
    )


def histogram(samples, name):
    """A histogram without labels, as (upper bound, cumulative count)."""
    buckets = [(float(found["le"]), int(value)) for own, found, value in samples if own == name + "_bucket"]
    return sorted(buckets)


def shares(before, after, name):
    """How much of a histogram's growth lies at or below each bound; bounds in milliseconds."""
    old, new = histogram(before, name), histogram(after, name)
    grown = [(bound, count - earlier) for (bound, count), (_, earlier) in zip(new, old)]
    whole = max(grown[-1][1], 1)
    return {f"{bound * 1000:g} ms": count / whole for bound, count in grown}


def drain(url, timeout=60, compressed=False):
    """Reads a body and keeps none of it; returns its length."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url)
    request.add_header("Accept-Encoding", "gzip" if compressed else "identity")
    length = 0
    with opener.open(request, timeout=timeout) as answer:
        while piece := answer.read(1 << 20):
            length += len(piece)
    return length
