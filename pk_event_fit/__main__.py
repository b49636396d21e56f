"""`python -m pk_event_fit`."""

from .cli import main

main()
