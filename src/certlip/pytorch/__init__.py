"""All that reads or makes torch modules."""
