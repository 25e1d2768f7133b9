"""A browser demo of trained models: a web page, its HTTP API, and the server of both."""
