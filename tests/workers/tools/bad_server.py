"""A chat endpoint that misbehaves as each request's `script` says. Prints its port, then serves.

A script is a JSON object beside the messages, in whose texts {n} stands for the number of requests
that came before it:
    status, headers   of the reply; without a status nothing at all is sent
    parts             what the body is made of: text is sent, a number is waited for in seconds
    chunked           whether each text is a chunk of HTTP's, so that a missing end is seen
    end               "keep" the connection, "close" it, "reset" it, "hang", or "flood" it
    first             another script, for the first request with this one

GET /seen answers with what came so far, and forgets it; GET /seen?after=hung_up waits until there
is some of `hung_up` (or another field of `Seen`).
"""

import asyncio
import json
import socket
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

FLOOD = b"data: " + b"x" * 65_530


@dataclass
class Seen:
    connections: int = 0
    hung_up: int = 0  # connections that the client ended while the server was not done
    flooded_bytes: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)


class Server:
    def __init__(self) -> None:
        self.seen, self.changed = Seen(), asyncio.Condition()
        self.played = 0
        self.begun: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        new = True
        try:
            while head := await self._head(reader):
                path, headers = head
                path, _, query = path.partition("?")
                if path.endswith("/seen"):
                    await self._tell(writer, query.removeprefix("after="))
                    return
                self.seen.connections += new
                new = False
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.seen.headers.append(headers)
                self.seen.bodies.append(body)
                await self._has_changed()
                if not await self._play(body["script"], reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            await self._has_hung_up()
        finally:
            writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
        first = (await reader.readline()).decode()
        if not first:
            return None
        headers = {}
        while line := (await reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return first.split()[1], headers

    async def _has_hung_up(self) -> None:
        self.seen.hung_up += 1
        await self._has_changed()

    async def _has_changed(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def _tell(self, writer: asyncio.StreamWriter, after: str) -> None:
        if after:
            async with self.changed:
                await self.changed.wait_for(lambda: getattr(self.seen, after))
        body = json.dumps(asdict(self.seen)).encode()
        self.seen = Seen()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
        await writer.drain()

    async def _play(
        self, script: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection goes on."""
        name = json.dumps(script)
        if "first" in script and name not in self.begun:
            self.begun.add(name)
            script = script["first"]
        chunked, end = script.get("chunked", False), script.get("end", "keep")
        parts = [
            part.replace("{n}", str(self.played)) if isinstance(part, str) else part
            for part in script.get("parts", [])
        ]
        self.played += 1
        headers = dict(script.get("headers", {}))
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif end == "keep":
            sent = sum(len(part.encode()) for part in parts if isinstance(part, str))
            headers.setdefault("Content-Length", str(sent))
        if "status" in script:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {script['status']} Said\r\n{lines}\r\n".encode())
        for part in parts:
            if isinstance(part, str):
                text = f"{len(part.encode()):x}\r\n{part}\r\n" if chunked else part
                writer.write(text.encode())
                await writer.drain()
            else:
                await asyncio.sleep(part)
        if end == "keep":
            writer.write(b"0\r\n\r\n" if chunked else b"")
            await writer.drain()
        elif end == "reset":
            linger = struct.pack("ii", 1, 0)  # closing then sends RST instead of FIN
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif end == "hang":
            await reader.read()  # until the client hangs up
            await self._has_hung_up()
        elif end == "flood":
            while True:
                writer.write(FLOOD)
                await writer.drain()
                self.seen.flooded_bytes += len(FLOOD)
        return end == "keep"


async def main() -> None:
    server = await asyncio.start_server(Server().serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
