"""The provider as the engine starts it: a gRPC server that says its port, and nothing else, on standard output.

The library's own server puts Python tracebacks on the user's screen and outlives an engine that was killed: here an
error is its one sentence (a fault of ours goes to a file that the sentence names), and an orphan ends itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2_grpc

from stackyard_infra.provider.announcing import Severity, listen
from stackyard_infra.provider.errors import Refusal
from stackyard_infra.provider.lifecycle import StackyardProvider

VERSION = "0.1.0"
QUESTIONS = ("Check", "Diff", "Create", "Read", "Update", "Delete", "Configure", "CheckConfig", "GetSchema")


class Servicer(ProviderServicer):
    """The library's servicer, with errors as sentences."""


def _with_sentences(question: str) -> Callable[..., Awaitable[Any]]:
    original = getattr(ProviderServicer, question)

    async def answer(self: Servicer, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await original(self, request, context)
        except Exception as error:  # noqa: BLE001 (whatever it is, the user gets a sentence)
            await context.abort(grpc.StatusCode.UNKNOWN, sentence(error.__context__ or error))

    return answer


for _question in QUESTIONS:
    setattr(Servicer, _question, _with_sentences(_question))


def sentence(error: BaseException) -> str:
    """What the user sees of an error; for one that nobody foresaw, where its traceback is."""
    if isinstance(error, Refusal):
        return str(error)
    with tempfile.NamedTemporaryFile("w", prefix="stackyard-provider-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    return f"The provider failed unexpectedly ({type(error).__name__}: {error}); please report it with {file.name}."


def to_engine(address: str) -> Callable[[str, Severity], None]:
    """Tells the engine at `address` sentences for the user's screen; one that is gone is not told."""
    engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address, options=_GRPC_CHANNEL_OPTIONS))
    severities = {"info": engine_pb2.INFO, "warning": engine_pb2.WARNING}

    def tell(sentence: str, severity: Severity) -> None:
        with contextlib.suppress(grpc.RpcError):
            engine.Log(engine_pb2.LogRequest(severity=severities[severity], message=sentence), timeout=5)

    return tell


async def serve(output: int) -> None:
    """Serve until the engine ends us, or is gone itself."""
    server = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
    servicer = Servicer(sys.argv[1:], VERSION, StackyardProvider(), engine_address=sys.argv[-1])
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    listen(to_engine(sys.argv[-1]))
    os.write(output, f"{port}\n".encode())
    engine = os.getppid()
    while os.getppid() == engine:  # noqa: ASYNC110 (the kernel tells nobody's event loop that a parent died)
        await asyncio.sleep(0.25)
    os._exit(1)  # killed engine: what a thread still does must not go on unseen


def main() -> None:
    """Run the provider; whatever prints to standard output meanwhile prints to standard error."""
    output = os.dup(1)
    os.set_inheritable(output, False)
    os.dup2(2, 1)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(output))


if __name__ == "__main__":
    main()
