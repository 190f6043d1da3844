"""What a certificate is, and all that checking one rests on: no solver, no torch."""
