"""Forward every connection to another address: `python forward.py --to 127.0.0.1:9000 --port 8333`.

Listens on this machine's address towards its containers, so that they reach what listens on
loopback alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket

#: The address that `host-gateway` stands for where the engine was not told another one.
GATEWAY = "172.17.0.1"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(to: str, port: int) -> None:
    host, _, target = to.rpartition(":")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, int(target))
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    async with await asyncio.start_server(accept, GATEWAY, port, backlog=512) as server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--to")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--check", action="store_true", help="only look whether it is served")
    options = parser.parse_args()
    if options.check:
        socket.create_connection((GATEWAY, options.port), 5).close()
    else:
        asyncio.run(_serve(options.to, options.port))
