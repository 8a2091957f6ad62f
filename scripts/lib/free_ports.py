"""Prints free ports of the loopback interface, one a line."""
import socket
import sys

held = []
for _ in range(int(sys.argv[1])):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    held.append(sock)
    print(sock.getsockname()[1])
