"""The HTML page: its top, its sections, its case browser and its charts.

`html.py` puts it together, `sections` holds a module per section. Imports no other format.
"""
