"""An HTTP server with OpenAI's interface, on the standard library alone."""
