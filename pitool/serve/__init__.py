"""An HTTP server with OpenAI's API; needs only the standard library."""
