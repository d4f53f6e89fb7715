"""What the hand-written part of the page says where a goal is not reached: the profile, and what was tried.

A text stands behind the marks of the goals that it is about, one or several, and goes on to the next mark or heading:

    <!-- goal: unbatched-400/rate -->

    What the profile says, what was tried, what it gave.
"""

import re

from benchmarks.publish.goals import all_keys, unreached_keys
from benchmarks.publish.results import Results
from benchmarks.publish.table import BEGIN, END

MARK = re.compile(r"^<!-- goal: (?P<key>\S+) -->$", re.MULTILINE)
HEADING = re.compile(r"^#{1,3} ", re.MULTILINE)
# Fewer cannot say what stands in the way and what was tried.
WORDS_MIN = 30


def find_texts(page: str) -> dict[str, str]:
    """Return the text for each goal that has a mark outside of the generated part."""
    before, _, rest = page.partition(BEGIN)
    written = before + rest.partition(END)[2]
    texts: dict[str, str] = {}
    text, end = "", len(written)
    for mark in reversed(list(MARK.finditer(written))):
        behind = written[mark.end() : end]
        if behind.strip():  # marks that follow each other share what comes behind the last
            text = HEADING.split(behind)[0].strip()
        texts[mark["key"]] = text
        end = mark.start()
    return texts


def find_silence(page: str, results: Results) -> list[str]:
    """Return what is wrong: goals that are not reached and have no text, and marks of goals that do not exist."""
    texts = find_texts(page)
    faults = [f"there is no goal {key}, of which the page has a mark" for key in texts if key not in all_keys()]
    silent = [key for key in unreached_keys(results) if len(texts.get(key, "").split()) < WORDS_MIN]
    return faults + [
        f"the goal {key} is not reached, so the page needs <!-- goal: {key} --> and behind it, in at least {WORDS_MIN} "
        f"words, the profile and what was tried"
        for key in silent
    ]
