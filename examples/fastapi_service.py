"""A FastAPI service with rate limits.

    pip install bide fastapi uvicorn
    uvicorn --app-dir examples fastapi_service:app

Every bearer token, else every client address, has 100 requests a second. Logging in is rarer, because each
try costs a guess at a password, and is counted by address: whoever guesses has no token. The health check is
not counted. An export is limited for its route alone.
"""

from typing import Annotated

from fastapi import Depends, FastAPI, Header

import bide

app = FastAPI()

# Added last, so outermost: what it refuses reaches nothing else. (CORS goes outside of it: browsers read a
# refusal only with CORS fields.)
app.add_middleware(bide.asgi.RateLimit, "100/second", paths={"/login": None, "/health": None})

by_address = bide.asgi.limit("5/minute", key=bide.asgi.client_address, name="login")
exports = bide.asgi.limit("2/minute", "10/hour", name="exports")


@app.get("/")
async def read_root(authorization: Annotated[str, Header()] = "") -> dict[str, bool]:
    return {"signed_in": authorization != ""}


@app.post("/login", dependencies=[Depends(by_address)])
async def login() -> dict[str, str]:
    return {"token": "an example has no passwords"}


@app.get("/export", dependencies=[Depends(exports)])
async def export() -> list[str]:
    return ["everything"]


@app.get("/health")
async def health() -> str:
    return "ok"
