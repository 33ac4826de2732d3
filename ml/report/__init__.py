"""The segment atlas: one self-contained page per day that tells a marketer who the customers are, where they are going,
what they are worth, what to do about it, and why the system abstains where it does.

Belongs here: counting and wording what the day's tables say, and the geometry of the page's pictures. Does not belong
here: any estimate (the page only repeats what the tables hold).

`data` counts customers by SQL; one module per section turns what it counted into words, and ``page.html`` lays these
out. Only `words` knows how a number is written, only the templates know how the page looks.
"""

from ml.report.data import TABLES, Atlas
from ml.report.page import render

__all__ = ["TABLES", "Atlas", "render"]
