"""The segment atlas: one self-contained page per day that shows marketers who the customers are, where they are going,
what they are worth, what to do about it, and why the plan abstains where it does.

Belongs here: counting and wording the day's tables, and the geometry of the page's pictures. Does not belong here: any
estimate (the page only repeats what the tables have).

`data` counts customers by SQL; one module per section puts the counts in words, and ``page.html`` lays these out. Only
`words` knows how a number is written, only the templates know how the page looks.
"""

from ml.report.data import TABLES, AtlasInputs
from ml.report.page import render

__all__ = ["TABLES", "AtlasInputs", "render"]
