"""A vocabulary in the World format, cut from text by pair merging, and its greedy tokenizer."""

import heapq
import re
from collections import Counter, defaultdict

# What a token lies within: letters, one digit, or signs, each with at most one space before.
PIECE = re.compile(rb" ?(?:[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]+)|\s")
# Greedy matching starts anew at every space, as no token has one inside.
SPACED = re.compile(rb" ?[^ ]+| ")


def cut(texts, size):
    """Tokens in id order from 1: the single bytes, then merged pairs by age. `size` is the number
    of rows of the embedding table, of which row 0 is reserved for the end of a text."""
    pieces = Counter(p for text in texts for p in PIECE.findall(text.encode()))
    words = [tuple(bytes([b]) for b in piece) for piece in pieces]
    counts = list(pieces.values())
    pairs, places = Counter(), defaultdict(set)
    for i, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pairs[pair] += counts[i]
            places[pair].add(i)
    # Counts change after a pair was queued: an entry counts if it is still right when it comes up.
    # Ties go to the smaller pair, so that the vocabulary depends on the text alone.
    queue = [(-n, pair) for pair, n in pairs.items()]
    heapq.heapify(queue)
    tokens = {bytes([b]): None for b in range(256)}
    while len(tokens) < size - 1 and queue:
        n, pair = heapq.heappop(queue)
        if pairs[pair] != -n or n == 0:
            continue
        tokens.setdefault(pair[0] + pair[1])
        changed = set()
        for i in places.pop(pair):
            old, new = words[i], merged(words[i], pair)
            for p in zip(old, old[1:]):
                pairs[p] -= counts[i]
                changed.add(p)
            for p in zip(new, new[1:]):
                pairs[p] += counts[i]
                places[p].add(i)
                changed.add(p)
            words[i] = new
        for p in changed:
            heapq.heappush(queue, (-pairs[p], p))
    return list(tokens)


def merged(word, pair):
    new, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            new.append(pair[0] + pair[1])
            i += 2
        else:
            new.append(word[i])
            i += 1
    return tuple(new)


def to_file(tokens):
    """One line a token: id, Python literal, length in bytes."""
    lines = []
    for i, token in enumerate(tokens, 1):
        try:
            literal = repr(token.decode())
        except UnicodeDecodeError:
            literal = repr(token)
        lines.append(f"{i} {literal} {len(token)}\n")
    return "".join(lines)


class Tokenizer:
    """Greedy longest match over the UTF-8 bytes."""

    def __init__(self, tokens):
        self.ids = {token: i for i, token in enumerate(tokens, 1)}
        self.longest = max(map(len, tokens))
        self.cache = {}

    def __call__(self, text):
        ids = []
        for part in SPACED.findall(text.encode()):
            known = self.cache.get(part)
            if known is None:
                known = self.cache[part] = self.match(part)
            ids += known
        return ids

    def match(self, raw):
        ids = []
        while raw:
            n = next(n for n in range(self.longest, 0, -1) if raw[:n] in self.ids)
            ids.append(self.ids[raw[:n]])
            raw = raw[n:]
        return ids
