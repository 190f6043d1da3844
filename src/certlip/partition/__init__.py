"""Cutting a network into sub-blocks: shapes only, no weights are read."""
