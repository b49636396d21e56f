"""Text tables as NONMEM reads them, one row an event, to and from `Records`.

A table is UTF-8 text: a header line, then rows, parted by commas (where the header has one, with quotes as CSV has
them), else by tabs, else by white space. Blank lines, rows that begin with `#` and, where the first column is named
`C`, rows that hold `C` there, are skipped; the header itself may begin with `#`. Names of columns are in any case and
order. `.`, nothing, NA and NaN are missing. What the columns mean: NONMEM Users Guide, part VI (PREDPP); if missing,

* EVID is 1 where AMT or RATE is not 0, else 0; MDV is 0 where EVID is, else 1; AMT, RATE, ADDL, II, SS and CENS are 0;
* CMT, which may be 0 as well, is 1, but is kept as 0 in an observation: what is observed is settled elsewhere.

LLOQ may be called LIMIT. The rows of an ID must be together; IDs are text, but 1 and 1.0 are one. Other columns are
covariates where they are finite numbers in every row that has a value, and one has; the rest, and the comment column
`C`, is text that is kept as it stands.
"""

from .reader import Table, parse, read
from .writer import of_records, render, write

__all__ = ["Table", "of_records", "parse", "read", "render", "write"]
