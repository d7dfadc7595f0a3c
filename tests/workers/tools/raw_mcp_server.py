"""An MCP server on stdio without the SDK: it lists the tools of a JSON file, whatever they are.

Its one argument is the file: by name of a tool its `listing`, and the `result` of each call. A call
of a tool with `becomes` puts these tools in the place of all, and says that they have changed.
"""

import json
import sys
from pathlib import Path
from typing import Any


def answer(method: str, params: dict[str, Any], tools: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "raw", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [{"name": name, **tool["listing"]} for name, tool in tools.items()]}
    if method == "tools/call":
        return tools[params["name"]]["result"] if params["name"] in tools else None
    return {} if method == "ping" else None


def main() -> None:
    tools = json.loads(Path(sys.argv[1]).read_text())
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message["method"], message.get("params", {}), tools)
        tool = tools.get(message.get("params", {}).get("name"), {})
        if "becomes" in tool:
            tools = tool["becomes"]
            say({"method": "notifications/tools/list_changed"})
        error = {"code": -32601, "message": "no such method"}
        body = {"error": error} if result is None else {"result": result}
        say({"id": message["id"], **body})


def say(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


if __name__ == "__main__":
    main()
