"""The search problem inside SeqLip: the largest norm of A diag(sigma) B over gates sigma, exactly or greedily."""
