"""A vocabulary cut to what is needed: which tokens stay, and everything with their new ids."""
