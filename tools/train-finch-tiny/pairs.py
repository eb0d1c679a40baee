"""Versions of a sentence of which it is known how much of their content they share.

Every word of a version carries the identity of the word it was made from, so that synonyms,
inflections, word order, case and signs leave what two versions share as it is, while words dropped,
added or exchanged lower it.
"""

from collections import Counter, defaultdict

import text

MIN_WORDS, MAX_WORDS = 6, 30
STEM = 5
SUFFIXES = ("s", "es", "d", "ed", "ing", "ly")


def identity(word):
    """Letters and digits of a word, lower case, the first few: inflections mostly agree."""
    return "".join(c for c in word.lower() if c.isalnum())[:STEM] or word


def shared(a, b):
    """Of the distinct identities of the longer side, the share that the other has too."""
    a, b = set(a), set(b)
    return len(a & b) / max(len(a), len(b))


class Version:
    def __init__(self, words):
        self.words = list(words)  # (as written, identity)

    def identities(self):
        return [identity for _, identity in self.words]

    def text(self):
        return " ".join(word for word, _ in self.words)


class Maker:
    def __init__(self, paragraphs, synonyms, random):
        self.random = random
        self.sentences, self.at = [], []
        for paragraph in paragraphs:
            for sentence in text.sentences(paragraph):
                words = sentence.split()
                if MIN_WORDS <= len(words) <= MAX_WORDS:
                    self.at.append(len(self.sentences))
                self.sentences.append([(word, identity(word)) for word in words])
        counts = Counter(w.lower() for s in self.sentences for w, _ in s if w.isalpha())
        self.forms = inflections(counts)
        # A synonym that the text does not use is a rare word more often than a good one.
        in_use = {word: [s for s in others if counts[s] > 1] for word, others in synonyms.items()}
        self.synonyms = {word: others for word, others in in_use.items() if others}
        self.by_length = sorted(self.at, key=lambda i: len(self.sentences[i]))

    def places(self, n):
        """Places of n sentences of like length."""
        first = self.random.randrange(len(self.by_length))
        near = self.by_length[max(0, first - 500) : first + 500]
        return self.random.sample(near, n)

    def plain(self, place):
        return Version(self.sentences[place])

    def changed(self, place):
        """A version of the sentence at `place` with a random part of its content changed."""
        chance, words = self.random, list(self.sentences[place])
        size = len(words)
        how_much = chance.random()
        for _ in range(chance.randrange(4)):
            amount = max(1, int(size * how_much * chance.uniform(0.1, 0.4)))
            chance.choice((self.drop, self.add, self.exchange))(words, amount, place)
        if chance.random() < 0.3:
            turn(words, chance)
        alike = chance.choice((0.0, 0.2, 0.5, 0.8))
        words = [(self.restated(word) if chance.random() < alike else word, i) for word, i in words]
        return Version(resigned(words, chance))

    def drop(self, words, amount, _):
        if len(words) > amount + 3:
            start = self.random.randrange(len(words) - amount + 1)
            del words[start : start + amount]

    def add(self, words, amount, place):
        start = self.random.choice((0, len(words), self.random.randrange(len(words) + 1)))
        words[start:start] = self.other(amount, place)

    def exchange(self, words, amount, place):
        """Words here and there for others, or a stretch of them."""
        others = self.other(amount, place)
        start = self.random.randrange(max(1, len(words) - len(others) + 1))
        places = range(start, min(len(words), start + len(others)))
        if self.random.random() < 0.5:
            places = self.random.sample(range(len(words)), min(len(words), len(others)))
        for at, word in zip(places, others):
            words[at] = word

    def other(self, amount, place):
        """A stretch of the sentence before or after, or of any."""
        nearby = (place + self.random.choice((-1, 1))) % len(self.sentences)
        source = self.sentences[self.random.choice((nearby, self.random.choice(self.at)))]
        start = self.random.randrange(max(1, len(source) - amount + 1))
        return source[start : start + amount]

    def restated(self, word):
        """A synonym or another inflection of a word, where one is known; signs stay."""
        core = word.strip(",.;:!?\"'()")
        known = self.synonyms.get(core.lower(), []) + self.forms.get(core.lower(), [])
        if not core or not known:
            return word
        new = self.random.choice(known)
        return word.replace(core, new.capitalize() if core[0].isupper() else new)


def inflections(counts):
    """word -> other forms of it that the text has."""
    forms = defaultdict(list)
    for word, count in counts.items():
        if len(word) < 4 or count < 3:
            continue
        for stem in (word, word[:-1]) if word.endswith("e") else (word,):
            for suffix in SUFFIXES:
                other = stem + suffix
                if other != word and counts[other] >= 3:
                    forms[word].append(other)
                    forms[other].append(word)
    return dict(forms)


def turn(words, chance):
    """The part after a comma, or after any word, comes first."""
    commas = [i + 1 for i, (word, _) in enumerate(words[:-1]) if word.endswith(",")]
    cut = chance.choice(commas or range(1, len(words)))
    words[:] = words[cut:] + words[:cut]


def resigned(words, chance):
    """Signs set off by spaces or left out, or the case changed; identities as they were."""
    style = chance.random()
    if style < 0.3:
        return [(set_off(word), i) for word, i in words]
    if style < 0.4:
        return [(word.strip(",.;:!?\"'()") or word, i) for word, i in words]
    if style < 0.5:
        return [(word.lower(), i) for word, i in words]
    return words


def set_off(word):
    for sign in (",", ".", ";", ":", "!", "?", "\"", "'s", "n't", "(", ")"):
        if len(word) > len(sign) + 1:
            if word.endswith(sign):
                word = f"{word[: -len(sign)]} {sign}"
            elif word.startswith(sign):
                word = f"{sign} {word[len(sign) :]}"
    return word
