"""Known bugs, planted one by one: each must turn at least one test red (`make mutants`)."""
