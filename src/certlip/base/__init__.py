"""What knows no network: errors, files, limits, clocks, rounding, the record, and how plug-ins are found."""
