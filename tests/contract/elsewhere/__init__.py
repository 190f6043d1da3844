"""A package outside certlip that brings a method of its own."""
