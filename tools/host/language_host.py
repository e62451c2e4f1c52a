"""A stand-in for Pulumi's Python language host, for machines where the official one cannot be had.

The engine cannot run a Python program by itself: it starts `pulumi-language-python ENGINE_ADDRESS`, reads a port from
its first line and calls it. The official host comes with the official CLI only, not with an engine built from source.
This one answers the few calls that a preview, up, refresh or destroy makes; it installs nothing and converts nothing.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from concurrent import futures

import grpc
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2


class LanguageHost(LanguageServer):
    """Runs the program that the engine names, in this process: the engine starts a fresh host for each command."""

    def __init__(self, engine_address: str) -> None:
        super().__init__(lambda: None)
        self._engine_address = engine_address

    def Handshake(self, request, context):  # noqa: N802 - the protocol's name
        """Say that we are there."""
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request, context):  # noqa: N802 - the protocol's name
        """Say who we are, for `pulumi about`."""
        return plugin_pb2.PluginInfo(version="0.0.0-stackyard")

    def Run(self, request, context):  # noqa: N802 - the protocol's name
        """Run the program as `python FOLDER` would: its folder first on the path, its arguments none."""
        folder = request.info.program_directory or request.pwd
        entry = os.path.normpath(os.path.join(folder, request.info.entry_point or "."))
        os.chdir(request.pwd)
        sys.path.insert(0, folder)
        sys.argv = [entry]
        self.program = lambda: _run(entry)
        del request.args[:]
        request.args.append(self._engine_address)
        result = super().Run(request, context)
        # What went wrong is logged by then; `error` would make the engine report it a second time as unhandled.
        return language_pb2.RunResponse(bail=True) if result.error else result


def _run(entry: str) -> None:
    runpy.run_path(entry, run_name="__main__")


def _end_with(engine: int) -> None:
    # A killed engine ends nobody, and a program left waiting for it would stay for ever.
    while os.getppid() == engine:
        time.sleep(0.5)
    os._exit(0)


def main(engine_address: str) -> None:
    """Serve on a free loopback port until the engine ends us, or ends."""
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: os._exit(0))
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=unlimited)
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(LanguageHost(engine_address), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[-1])
