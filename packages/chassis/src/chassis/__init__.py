"""The microservice chassis: mechanisms that every service needs, and no business noun."""
