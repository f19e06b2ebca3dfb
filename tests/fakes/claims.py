"""Claims of jobs by a launch that a test plays."""

from collections.abc import Iterator
from contextlib import contextmanager

from fssplat.results.store import Store


@contextmanager
def job_claimed_by(launch: str, store: Store, key: str) -> Iterator[None]:
    """Hold the claim of job `key` for the launch while the block runs; the job must be free."""
    claim = store.claim_job(key, launch)
    assert claim is not None, f"job {key} is claimed already"
    with claim:
        yield
