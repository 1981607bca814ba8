"""Answers a repeated request with what the first one was answered."""

import hashlib
import json
import time
from collections.abc import Generator
from contextlib import contextmanager

from waybill.provider import errors
from waybill.provider.parameters import Tree
from waybill.provider.store import Store, StoredAnswer

MAX_KEY_LENGTH = 255
KEPT_FOR = 24 * 3600.0
"""Seconds; Stripe too promises a day."""


def fingerprint(path: str, parameters: Tree) -> str:
    canonical = json.dumps([path, parameters], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


class IdempotencyKeys:
    """A key is in use until its answer has left, and remembered with the effect of its request."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_use: set[str] = set()

    @contextmanager
    def use(self, key: str) -> Generator[None]:
        if len(key) > MAX_KEY_LENGTH:
            raise errors.ApiError(f"An Idempotency-Key has at most {MAX_KEY_LENGTH} characters.")
        if key in self._in_use:
            raise errors.key_in_use(key)
        self._in_use.add(key)
        try:
            yield
        finally:
            self._in_use.remove(key)

    def recall(self, key: str, request_fingerprint: str) -> StoredAnswer | None:
        answer = self._store.stored_answer(key, time.time() - KEPT_FOR)
        if answer is not None and answer.fingerprint != request_fingerprint:
            raise errors.key_reused(key)
        return answer

    def remember(self, key: str, answer: StoredAnswer) -> None:
        now = time.time()
        self._store.forget_answers_before(now - KEPT_FOR)
        self._store.store_answer(key, answer, now)
