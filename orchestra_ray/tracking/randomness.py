"""Detects random values: keys, passwords and tokens made by a program, under any name.

A value is split into pieces at blanks and marks such as `:` and `,`, and a piece into runs of
letters and digits. A run is ordinary if it is one word, one number, a short mixture of both
(`cu129`), a repetition of few letters, an alphabet, or at least half of pronounceable words
(`Qwen3Next80BA3BInstruct`). A piece is random if its other runs have `MIN_RANDOM_CHARS` in total.
Paths, UUIDs, dates, versions and labelled digests are not random.
"""

import base64
import binascii
import re
import string

MIN_RANDOM_CHARS = 16
_MIN_RUN = 3

_KNOWN = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"  # UUID
    r"|\b(?:sha\d+|md5)[:-][\w+/]+=*|\bguid=[0-9a-f]+|\b0x[0-9a-fA-F]+"
    r"|\b(?:i|vol|ami|eni|sg|snap|subnet|vpc)-[0-9a-f]{8,17}\b"  # ids of cloud resources
    r"|\b\d{8}T\d{4,6}Z?\b|\b\d+(?:\.\d+)+(?:[-.+]?[a-z][\w.]*)*(?:[-+][\w.]+)*"  # date, version
)
_PIECES = re.compile(r"[^\w+/.~-]+", re.ASCII)
_RUNS = re.compile(r"[A-Za-z0-9]+")
_SEGMENTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_VOWELS = set("aeiouy")
# A letter, and the letters that follow it in English and German words.
_FOLLOWERS = {
    letters[0]: frozenset(letters[1:])
    for letters in (
        "abcdefgiklmnprstuvwxyz baeijlorsuy cacdehiklmoprstu dabcdefgilmoprstu"
        " eabcdefghiklmnopqrstuvwxyz fadefilorstu gaehilnorstu haeilmnortuw iabcdefglmnoprstvxz"
        " jaeou kaeilnorstu lacdefiklmopstuvyz mabdeilmnopstuy nabcdefgiklmnoprstuvyz"
        " oabcdefghiklmnopqrstuvwxy pacdefhiloprstuy quw rabcdefgiklmnoprstuvyz"
        " sacdefghiklmnopqrstuvwy tabcdefghilmnoprstuwyz uabcdefgilmnprst vaeioru waehilnorsu"
        " xaceimpt yaeilmnopst zaeiotuwz"
    ).split()
}

_IN_ORDER = 2 * (string.digits + string.ascii_lowercase)


def is_random(value: str) -> bool:
    """Returns whether a piece of the value is random."""
    return any(map(_is_random_piece, _PIECES.split(_KNOWN.sub(" ", value))))


def is_word(text: str) -> bool:
    """Returns whether letters are pronounceable, judged by vowels and pairs of letters."""
    letters = text.lower()
    vowels = sum(letter in _VOWELS for letter in letters)
    unusual = sum(b not in _FOLLOWERS[a] for a, b in zip(letters, letters[1:], strict=False))
    return vowels * 6 >= len(letters) and vowels > 0 and unusual * 6 <= len(letters)


def _is_random_piece(piece: str) -> bool:
    if len(piece) < MIN_RANDOM_CHARS or _is_path(piece) or _is_text_in_base64(piece):
        return False
    runs = _RUNS.findall(piece)
    odd = sum(len(run) for run in runs if not _is_ordinary(run))
    return odd >= MIN_RANDOM_CHARS and odd * 2 > sum(map(len, runs))


def _is_path(piece: str) -> bool:
    parts = [part for part in piece.split("/") if part]
    words = sum(part.isalpha() and len(part) > 2 and is_word(part) for part in parts)
    return piece.count("/") > 1 and (piece[0] in "/.~" or words * 2 >= len(parts)) or words > 1


def _is_text_in_base64(piece: str) -> bool:
    try:
        padded = piece + "=" * (-len(piece) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        return False
    return text.isprintable() and not is_random(text)


def _is_ordinary(run: str) -> bool:
    segments = _SEGMENTS.findall(run)
    if run.isdigit() or len(run) < _MIN_RUN or (len(segments) < 3 and len(run) < MIN_RANDOM_CHARS):
        return True
    if len(set(run)) < 4 or run.lower() in _IN_ORDER:
        return True
    words = [one for one in segments if len(one) > 2 and one.isalpha() and is_word(one)]
    return sum(map(len, words)) * 2 >= len(run)
