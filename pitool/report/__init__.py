"""How results are written down: numbers, tables, SVG and HTML, one of each.

Knows nothing of models or boards: values come in as numbers and strings.
"""
