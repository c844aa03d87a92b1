"""One file per library: the code that a named pipeline runs, and the sides of pictures as that code counts them."""
