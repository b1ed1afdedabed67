"""A comparison as text and pages: one table of columns, one file a form."""
