"""The page at ``/``: a chat in the browser, as static files and the headers to send with them.

``INDEX`` is the document and ``ASSETS`` the folder behind ``/assets/``. There is no build step:
what lies here is what a browser gets. ``assets/vendor`` holds files of other projects, unchanged;
``vendor.toml`` says which.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
INDEX = HERE / "index.html"
ASSETS = HERE / "assets"

# Nothing from elsewhere, nothing inline, and no HTML that DOMPurify has not made: an answer of a
# model is a stranger's text.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Asked for again each time, for a newer pitool has other files under the same names.
    "Cache-Control": "no-cache",
}
