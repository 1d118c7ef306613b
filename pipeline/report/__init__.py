"""One page on a run or a night: what was found, how sure that is, and what is other than before. No Ray, no model."""
