"""bide tells any HTTP client what to do with a response, and keeps it inside a rate limit."""
