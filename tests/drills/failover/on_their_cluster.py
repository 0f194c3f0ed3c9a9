"""The commands of somebody's cluster: ``on_their_cluster.py SOCKET WHOM ACT``; its operator's machine does it."""

import socket
import sys

with socket.socket(socket.AF_UNIX) as wire:
    wire.connect(sys.argv[1])
    wire.sendall(" ".join(sys.argv[2:]).encode() + b"\n")
    answer = wire.makefile().read()
if answer != "done":
    sys.exit(answer or "nobody answered")
