"""One file per library: the code that a named pipeline runs."""
