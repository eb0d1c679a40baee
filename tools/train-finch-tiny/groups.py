"""Groups of texts that have much, little or nothing in common, made from running text.

A group is a sentence, two edited versions of it and the sentence that follows. Texts of different
groups are mostly unrelated, so a batch of groups spans the similarities there are.
"""

import text

SIZE, VERSIONS = 4, 3  # members of a group, and those that are versions of one sentence
MIN_WORDS, MAX_WORDS = 6, 32
OPENING, CLOSING = ("\"", "("), (",", ".", ";", ":", "!", "?", "\"", "'s", "n't", ")")


def make(paragraphs, n_groups, random):
    """[group][member]: n_groups of SIZE texts."""
    sentences = [s.split() for p in paragraphs for s in text.sentences(p)]
    usable = [i for i, s in enumerate(sentences[:-1]) if MIN_WORDS <= len(s) <= MAX_WORDS]
    groups = []
    for i in sorted(random.sample(usable, n_groups)):
        sentence, following = sentences[i], sentences[i + 1][:MAX_WORDS]
        donors = (following, sentences[random.choice(usable)])
        versions = [edited(sentence, random.choice(donors), random) for _ in range(VERSIONS - 1)]
        groups.append([" ".join(words) for words in (sentence, *versions, following)])
    return groups


def edited(words, donor, random):
    """The words with a stretch dropped, put in from the donor, or exchanged, up to three times."""
    words, most = list(words), random.uniform(0.1, 0.4)
    for _ in range(random.randint(1, 3)):
        n = max(1, int(len(words) * random.uniform(0, most)))
        start = random.randrange(len(words) - n + 1)
        kind = random.choice(("drop", "add", "exchange"))
        from_donor = random.randrange(max(1, len(donor) - n + 1))
        new = [] if kind == "drop" else donor[from_donor : from_donor + n]
        words[start : start + (0 if kind == "add" else n)] = new
        if len(words) < 4:
            return list(donor)
    if random.random() < 0.2:  # the end comes first
        cut = random.randrange(len(words))
        words = words[cut:] + words[:cut]
    return words


def set_off(sentence):
    """The sentence with spaces around its signs, as many corpora are written."""
    words = []
    for word in sentence.split():
        end = []
        while len(word) > 1 and word.startswith(OPENING):
            words.append(word[0])
            word = word[1:]
        while sign := next((s for s in CLOSING if word.endswith(s) and len(word) > len(s)), None):
            end.insert(0, sign)
            word = word[: -len(sign)]
        words += [word, *end]
    return " ".join(words)
