"""An OpenAI-compatible chat server with one behaviour for each model name. Prints its port.

writer  counts the records in its prompt; its first answer has no description
mute    never writes a description
solver  adds up the sum in a question, in a box
down    answers 500
proposer  writes preferences, some for each reason to drop one; different ones each time
checker   rejects a pair whose instruction is about money and whose cost has no weight
hasty     judges only the first pair
grader    accepts an answer unless it contains "wrong"

GET /seen answers with the requests so far.
"""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SEEN: list[dict[str, Any]] = []


def proposed(number: int) -> list[Any]:
    """Returns valid preferences, and one for each reason to drop it."""
    free = {"outcome": 1, "cost": 0, "latency": 0, "tools": {}}
    return [
        {**free, "cost": 1, "instructions": [f"Spend little, case {number}.", f"Save, {number}."]},
        {
            **free,
            "tools": {"search": 0.5},
            "instructions": [f"Search, {number}.", f"{number}!"],
        },
        {**free, "cost": 2, "instructions": ["A weight above 1."]},
        {**free, "tools": {"teapot": 1}, "instructions": ["A tool that there is not."]},
        {**free, "cost": 1, "instructions": ["Ask nova only."]},
        {**free, "instructions": [f"Spend nothing, case {number}."]},
        {**free, "cost": 1, "instructions": ["Be cheap.", "Be cheap."]},
        "no object",
    ]


def judged(text: str) -> list[bool]:
    pairs = [json.loads(pair) for pair in re.findall(r"<pair number=.*?>(.*?)</pair>", text)]
    return [pair["cost"] > 0 or "Spend" not in pair["instruction"] for pair in pairs]


def reply_of(model: str, text: str) -> str:
    if model == "proposer":
        return f"<think><pairs>[]</pairs></think><pairs>{json.dumps(proposed(len(SEEN)))}</pairs>"
    if model in ("checker", "hasty"):
        verdicts = judged(text)[: 1 if model == "hasty" else None]
        return f"So: <verdicts>{json.dumps(verdicts)}</verdicts>"
    if model == "grader":
        wrong = "wrong" in text.partition("Student's answer")[2].partition("\n\n")[0]
        return f"`<correct>{not wrong}</correct>`\r\n"
    if model == "solver":
        terms = re.search(r"([\d+ -]+) =", text)
        return f"I add. \\boxed{{{eval(terms[1]) if terms else 0}}}"
    if model == "mute" or "<assistant>" not in text:
        return "It has its strengths."
    records, right = text.count("<record number"), text.count('outcome="right"')
    return f"<think>well</think><description>Right {right} of {records} times.</description>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply(200, SEEN)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        SEEN.append({"key": self.headers["Authorization"], **body})
        if body["model"] == "down":
            return self.reply(500, {"error": {"message": "out of order"}})
        message = {
            "role": "assistant",
            "content": reply_of(body["model"], body["messages"][-1]["content"]),
        }
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        self.reply(200, {"choices": [choice], "usage": usage})

    def reply(self, status: int, answer: Any) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
