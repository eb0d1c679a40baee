"""Paragraphs and sentences from plain text files; definitions and synonyms from WordNet's files."""

import re
from collections import defaultdict
from pathlib import Path

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
WORD = re.compile(r"\w+")
PARTS = ("noun", "verb", "adj", "adv")
# A lemma of many senses has no synonym that fits everywhere.
MAX_SENSES = 4


def plain_words(text):
    return " ".join(WORD.findall(text.lower()))


class Forbidden:
    """Texts kept for evaluation: every field of at least four words of the named TSV files."""

    def __init__(self, paths):
        lines = [line for path in paths for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
        fields = {plain_words(field) for line in lines for field in line.split("\t")}
        self.texts = {field for field in fields if field.count(" ") >= 3}
        self.starts = defaultdict(set)
        for text in self.texts:
            self.starts[tuple(text.split()[:4])].add(text)

    def met(self, paragraph):
        """Whether the paragraph has one of them in it, whatever the case and the signs."""
        words = plain_words(paragraph).split()
        for i in range(len(words) - 3):
            for text in self.starts.get(tuple(words[i : i + 4]), ()):
                if words[i : i + text.count(" ") + 1] == text.split():
                    return True
        return False


def read_paragraphs(paths, forbidden):
    """Paragraphs in file order, none twice, none that holds a forbidden text; and how many did."""
    seen, met = {}, 0
    for path in paths:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            line = line.strip()
            if not line or line in seen:
                continue
            if forbidden.met(line):
                met += 1
            else:
                seen[line] = None
    return list(seen), met


def sentences(paragraph):
    return SENTENCE_END.split(paragraph)


class WordNet:
    """pairs: (words of a synset, its definition); synonyms: single word -> other words."""

    def __init__(self, folder):
        self.pairs, by_sense = [], {}
        for part in PARTS:
            for line in (Path(folder) / f"data.{part}").read_text(encoding="utf-8").splitlines():
                if not line.startswith(" "):
                    offset, words, gloss = synset(line)
                    by_sense[part, offset] = words
                    self.pairs.append((", ".join(words), gloss.split(";")[0].strip()))
        self.synonyms = synonyms(Path(folder), by_sense)


def synset(line):
    """A line of data.*: offset, file number, kind, count (hexadecimal), then words and links."""
    fields, gloss = line.split(" | ", 1)
    fields = fields.split()
    words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in words]
    return int(fields[0]), words, gloss


def synonyms(folder, by_sense):
    """Of lemmas with few senses, the other words of the commonest sense."""
    found, senses = defaultdict(list), defaultdict(int)
    for part in PARTS:
        for line in (folder / f"index.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split()
            lemma, count = fields[0], int(fields[2])
            senses[lemma] += count
            for word in by_sense[part, int(fields[-count])]:  # the commonest sense is first
                if word.lower() != lemma and word.isalpha() and word.islower():
                    found[lemma].append(word)
    return {lemma: words for lemma, words in found.items() if senses[lemma] <= MAX_SENSES}
