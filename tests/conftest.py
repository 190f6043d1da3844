"""Lets tests import `oracle` and `random_networks`, which lie beside this file."""

from hypothesis import settings

settings.register_profile("certlip", deadline=None, derandomize=True)
settings.load_profile("certlip")
