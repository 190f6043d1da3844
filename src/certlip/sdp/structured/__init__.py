"""The structured solver of LipSDP: rank-two constraint matrices, dense products only, no loop over constraints."""
