"""LipSDP on any graph of convolutions, with one multiplier a channel, on a torus: a small matrix a frequency."""
