"""Grader of HotpotQA: exact match and F1, by the rules of the benchmark's evaluation script.

Both compare words in lower case, without punctuation and the articles a, an and the. F1 is over the
words shared by answer and reference; if either is `yes`, `no` or `noanswer` it is 1 or 0. Two rules
are added: only the text marked by \\boxed{} or <answer>, if any, is compared; and if a normalised
reference is empty, the texts are compared with their articles.

(hotpot_evaluate_v1.py of github.com/hotpotqa/hotpot, which reports the means of both scores.)
"""

import re
import string
from collections import Counter

from orchestra_ray.data.catalogue.parsers import Parser, parse

RIGHT_FROM_F1 = 0.5  # threshold of a verdict; the benchmark reports the mean of the scores
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED = {"yes", "no", "noanswer"}


def normalized(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", _bare(text)).split())


def is_exact_match(reference: str, answer: str) -> bool:
    given = _marked(answer)
    if not (right := normalized(reference)):
        return _bare(reference).split() == _bare(given).split()
    return right == normalized(given)


def f1(reference: str, answer: str) -> float:
    right, given = normalized(reference), normalized(_marked(answer))
    if right != given and (right in _CLOSED or given in _CLOSED):
        return 0.0
    if not right:
        return float(is_exact_match(reference, answer))
    there, said = right.split(), given.split()
    shared = sum((Counter(there) & Counter(said)).values())
    return 2 * shared / (len(there) + len(said)) if shared else 0.0


def is_f1_match(reference: str, answer: str) -> bool:
    return f1(reference, answer) >= RIGHT_FROM_F1


def _marked(answer: str) -> str:
    return parse(Parser.BOXED, parse(Parser.ANSWER_TAG, answer))


def _bare(text: str) -> str:
    return text.lower().translate(_PUNCTUATION)
