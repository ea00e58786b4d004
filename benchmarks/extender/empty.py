"""An extender that agrees with whatever it is asked: what the protocol alone costs.

python -m benchmarks.extender.empty --port 9000
"""

import argparse
import json

import uvicorn
from starlette.types import Receive, Scope, Send


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Return the nodes that were sent."""
    if scope["type"] != "http":
        return
    body = b""
    more = scope["method"] == "POST"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    names = json.loads(body)["NodeNames"] if body else []
    payload = json.dumps({"NodeNames": names, "Error": ""}).encode()
    headers = [(b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": payload})


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(application, host="127.0.0.1", port=parser.parse_args().port, log_level="warning")


if __name__ == "__main__":
    main()
