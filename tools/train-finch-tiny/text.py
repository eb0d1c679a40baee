"""Paragraphs, sentences and words of plain text files."""

import re
from collections import defaultdict
from pathlib import Path

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
WORD = re.compile(r"\w+")


def words(text):
    return WORD.findall(text.lower())


class Forbidden:
    """Texts kept for evaluation: every field of at least four words of the named TSV files."""

    def __init__(self, paths):
        self.starts = defaultdict(set)
        for path in paths:
            for field in re.split(r"[\t\n]", Path(path).read_text(encoding="utf-8-sig")):
                text = tuple(words(field))
                if len(text) >= 4:
                    self.starts[text[:4]].add(text)

    def met(self, paragraph):
        """Whether the paragraph has one of them in it, whatever the case and the signs."""
        found = tuple(words(paragraph))
        for i in range(len(found) - 3):
            for text in self.starts.get(found[i : i + 4], ()):
                if found[i : i + len(text)] == text:
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
