"""Every other kind of report: JSON, CSV, Parquet, Markdown, JUnit, SARIF, GitHub annotations, PDF.

`writers.py` holds the entry points. Each format shows the summary and the verdict; none imports another.
"""
