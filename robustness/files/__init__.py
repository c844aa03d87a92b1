"""Reading and writing files within limits: sizes, links, and replacement in one step.

Must not import any other package of the toolkit, apart from errors and text.
"""
