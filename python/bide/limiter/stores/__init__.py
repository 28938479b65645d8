"""Where a limiter's counters lie: a file for each kind of store. Nothing is imported before it is named."""
