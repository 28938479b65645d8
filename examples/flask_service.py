"""A Flask service with rate limits.

    pip install bide flask gunicorn
    gunicorn --chdir examples --preload --workers 2 flask_service:app

Every bearer token, else every client address, has 100 requests a second. An export is limited for its view
alone. With --preload the limits are made before the workers are forked, and so all workers share them.
"""

from flask import Flask

import bide

app = Flask(__name__)
app.wsgi_app = bide.wsgi.RateLimit(  # type: ignore[method-assign]  # it is how Flask takes middleware
    app.wsgi_app, "100/second", paths={"/health": None}
)


@app.get("/")
def read_root() -> dict[str, str]:
    return {"hello": "world"}


@app.get("/export")
@bide.wsgi.limit("2/minute", "10/hour", name="exports")
def export() -> list[str]:
    return ["everything"]


@app.get("/health")
def health() -> str:
    return "ok"
