"""Models on show in a browser: a page, the API behind it, and the server of both."""
