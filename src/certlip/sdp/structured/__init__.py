"""The structured solver of LipSDP: a low-rank dual, rank-two constraint matrices, no loop over constraints."""
