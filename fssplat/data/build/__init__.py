"""How does a data set get here? From official archives to shards, checked."""
