"""`python -m waybill`, for a process that starts another of its kind."""

from waybill.cli import main

if __name__ == "__main__":
    main()
