"""Doing the work of a plan: programs solved side by side within limits, kept, and merged into a bound."""
