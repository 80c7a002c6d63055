"""Threads that decode, scale and encode images for whichever model is asked next."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

from storage.network_flow import cpus


@cache
def encoders() -> ThreadPoolExecutor:
    """One thread for each CPU. Not those of `storage/network.py`, one of which may wait for a model."""
    return ThreadPoolExecutor(cpus(), thread_name_prefix="encode")
