"""Reports: a run folder in, text out. Nothing here needs TensorFlow or Keras.

``write_html(run)`` writes one self-contained page; ``summarise(Run.open(run))`` gives its numbers.
"""

from robustness.reports.intervals import Share, wilson
from robustness.reports.page.html import write_html
from robustness.reports.summary.summary import Summary, summarise

__all__ = ["Share", "Summary", "summarise", "wilson", "write_html"]
