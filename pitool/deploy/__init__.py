"""HOST. Carries pitool and a bundle to a board: wheel (cross-build), pack (archive), push (ssh)."""
