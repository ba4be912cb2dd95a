"""Passwords of people: Argon2id at rest, the rules of NIST SP 800-63B at the door, and the back-off after failures.

Refused: what is short, endless, common, a pattern, or the user's own name. There is no rule about digits or signs
and no expiry, because they make passwords worse. A password is compared as Unicode NFC, so that two keyboards that
compose an umlaut differently type the same one.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from threading import BoundedSemaphore

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from hilum.core.errors import InvalidInput, Unavailable

MINIMUM_LENGTH = 12
LEAST_MINIMUM = 8  # SP 800-63B-3 5.1.1.2: a setting may not go below
MAXIMUM_LENGTH = 256

# RFC 9106 section 4, second recommended option: 64 MiB, three passes, four lanes
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4, hash_len=32, salt_len=16, type=Type.ID)

# 64 MiB each: without a limit a burst of logins would be a burst of memory
CONCURRENT_HASHES = 2
HASH_WAIT_SECONDS = 10.0
_slots = BoundedSemaphore(CONCURRENT_HASHES)

# no 0 O 1 l I, no vowels that spell words: it is read out over the telephone
READABLE = "23456789bcdfghjkmnpqrstvwxyz"
# characters that are neither the one before nor its neighbour in the alphabet, the digits or a row of keys
FEWEST_SURPRISES = 5
FREE_FAILURES = 5
FIRST_LOCK = timedelta(seconds=30)
LONGEST_LOCK = timedelta(minutes=15)
MANY_FAILURES = 100  # SP 800-63B-3 5.2.2
LOCK_AFTER_MANY = timedelta(days=1)

# The stems of the most used passwords of public breach statistics, and words this place suggests. What a person puts
# round them (digits, signs, capitals, 0 for o) is taken off before comparing.
COMMON_STEMS = frozenset(
    """
    access admin administrator amanda america andrea andrew angel anthony apple ashley asdf august austin autumn
    babygirl bailey banana baseball basketball batman blink buster butterfly changeit changeme charlie cheese
    chelsea chocolate chris computer cookie corvette dallas daniel david december default demo diamond doctor
    dolphin dragon eagle eagles easy elephant enter family february ferrari flower football forever freedom friday
    friend friends george ginger godisgood guest hannah harley harry heather hello hilum hockey hospital hunter
    iloveu iloveyou internet iwantu jackson january jasmine jennifer jesus jessica jordan joshua july june justin
    killer kitty legend letmein liverpool login london love lovely loveyou maggie manchester march martin master
    matrix matthew maverick medical mercedes merlin michael michelle monday money monkey mother mustang
    naruto network nicholas nicole november nurse october orange pacs pakistan panther password passwort patient
    peanut pepper phoenix pokemon porsche prince princess private purple qazwsx qwerty qwertyuiop qwertz rabbit
    radiologist radiology rainbow ranger robert root samantha samsung saturday scooter secret september shadow silver
    snoopy soccer spider spring starwars steelers success summer sunday sunflower sunshine superman superstar
    support sweet system taylor temp temporary tennis test testing thomas thunder thursday tigger trustno trustnoone
    tuesday user victoria wednesday welcome whatever william winner winter wizard xray yankees yellow zxcvbn
    zxcvbnm
    """.split()
)
_LEET = str.maketrans("0134578@$!", "oieastbasi")
_RUNS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm")


def hash_password(password: str) -> str:
    """Return the Argon2id hash to store; Unavailable when too many hashes are being computed."""
    normal = _normal(password)
    if len(normal) > MAXIMUM_LENGTH or not _can_be_typed(normal):
        raise _weak("The password is too long, or holds characters that cannot be typed.")
    with _slot():
        return _HASHER.hash(normal)


def verify_password(stored: str | None, password: str) -> bool:
    """Tell whether a password fits its hash; for an unknown user pass None, and the answer takes as long."""
    normal = _normal(password)
    if len(normal) > MAXIMUM_LENGTH or not _can_be_typed(normal):
        return False
    try:
        with _slot():
            return _HASHER.verify(stored if stored is not None else _nobody(), normal) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(stored: str) -> bool:
    """Tell whether a hash was made with other parameters than today's; rehash at the next successful login."""
    try:
        return _HASHER.check_needs_rehash(stored)
    except InvalidHashError:
        return True


def check_password(password: str, *, user_name: str, minimum: int = MINIMUM_LENGTH) -> None:
    """Raise InvalidInput with the reason when a new password is not good enough."""
    normal = _normal(password)
    least = max(minimum, LEAST_MINIMUM)
    if len(normal) < least:
        raise _weak(f"The password needs at least {least} characters.")
    if len(normal) > MAXIMUM_LENGTH:
        raise _weak(f"The password may have at most {MAXIMUM_LENGTH} characters.")
    if not _can_be_typed(normal):
        raise _weak("The password holds characters that cannot be typed.")
    folded = normal.casefold()
    if _is_pattern(folded):
        raise _weak("The password is a simple pattern; choose another.")
    stems = {folded, _stem(folded), _stem(folded).translate(_LEET), _stem(folded.translate(_LEET))}
    if any(_is_built_from(stem, COMMON_STEMS) for stem in stems):
        raise _weak("The password is a common one; choose another.")
    name = _normal(user_name).casefold()
    if name and (folded == name * (len(folded) // len(name)) or any(stem in (name, _stem(name)) for stem in stems)):
        raise _weak("The password is the user name; choose another.")


def one_time_password(choice: Callable[[Sequence[str]], str] = secrets.choice) -> str:
    """Make a random password that can be read out: four groups of four, about 77 bits."""
    return "-".join("".join(choice(READABLE) for _ in range(4)) for _ in range(4))


def locked_until(failures: int, last_failure: datetime) -> datetime | None:
    """Return until when no password of this account is tried, or None.

    Four mistakes are free; then the wait doubles from 30 seconds to 15 minutes, and is a day from the hundredth on.
    It always ends by itself: a lock that only an administrator opens would let a stranger lock out a ward.
    """
    if failures < FREE_FAILURES:
        return None
    if failures >= MANY_FAILURES:
        return last_failure + LOCK_AFTER_MANY
    doublings = min(failures - FREE_FAILURES, 10)
    return last_failure + min(FIRST_LOCK * (1 << doublings), LONGEST_LOCK)


@contextmanager
def _slot() -> Iterator[None]:
    if not _slots.acquire(timeout=HASH_WAIT_SECONDS):
        raise Unavailable("Too many people are signing in at this moment; try again.")
    try:
        yield
    finally:
        _slots.release()


@cache
def _nobody() -> str:
    return _HASHER.hash(secrets.token_hex(16))


def _normal(password: str) -> str:
    # cut before normalising: what is longer is refused anyway, and must not cost anything
    return unicodedata.normalize("NFC", password[: MAXIMUM_LENGTH * 8])


def _can_be_typed(normal: str) -> bool:
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in normal)


def _weak(reason: str) -> InvalidInput:
    return InvalidInput(reason, field="password")


def _stem(folded: str) -> str:
    """Take off what is not a letter from both ends."""
    letters = [index for index, character in enumerate(folded) if character.isalpha()]
    return folded[letters[0] : letters[-1] + 1] if letters else ""


def _is_built_from(stem: str, words: frozenset[str]) -> bool:
    """Tell whether a text is one common word, or the same one again and again."""
    return any(stem == word * (len(stem) // len(word)) for word in words) if stem else False


def _is_pattern(folded: str) -> bool:
    """Tell whether a text repeats a block of up to three, or little but steps along alphabet, digits or keyboard."""
    length = len(folded)
    if any((folded[:size] * length)[:length] == folded for size in (1, 2, 3)):
        return True
    surprises = 1 + sum(not _follows(left, right) for left, right in pairwise(folded))
    return surprises < FEWEST_SURPRISES


@cache
def _neighbours() -> frozenset[str]:
    pairs = {run[index : index + 2] for run in _RUNS for index in range(len(run) - 1)}
    return frozenset(pairs | {pair[::-1] for pair in pairs})


def _follows(left: str, right: str) -> bool:
    return left == right or left + right in _neighbours()
