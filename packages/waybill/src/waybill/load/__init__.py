"""The load: customers by the thousand, what they were answered, and what became of their orders."""
