"""A proxy before an S3 server that counts requests and answers as late as S3 does."""
import re
import socket
import threading
import time
from collections import Counter

CHUNK = 256 << 10
SLOW_SECONDS = 1


class Proxy:
    """Passes requests on, counts them, and holds each answer's first byte back."""

    def __init__(self, upstream, latency, rate):
        host, port = upstream.removeprefix("http://").split(":")
        self.upstream, self.latency, self.rate = (host, int(port)), latency, rate
        self.lock = threading.Lock()
        self.counts, self.bytes_out, self.bytes_in = Counter(), 0, 0
        # Of so many requests one is answered a second later; none where it is 0.
        self.slow_every, self.passed = 0, 0
        # What is answered here, and not by the server.
        self.listed = None
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.endpoint = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            with client, socket.create_connection(self.upstream) as server:
                for sock in (client, server):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                from_client, from_server = Stream(client), Stream(server)
                while (head := from_client.head()) is not None:
                    self.exchange(head, from_client, from_server)
        except OSError:
            pass

    def exchange(self, head, from_client, from_server):
        with self.lock:
            self.counts[kind(head)] += 1
            self.passed += 1
            is_slow = self.slow_every and self.passed % self.slow_every == 0
        if self.listed and (made := self.listed.answer(head)):
            time.sleep(self.latency)
            from_client.sock.sendall(b"".join(made))
            with self.lock:
                self.bytes_in += len(made[1])
            return
        from_server.sock.sendall(head)
        sent = from_client.pass_body(head, from_server.sock)
        answer = from_server.head()
        # The client has had its own already.
        while answer is not None and answer.startswith(b"HTTP/1.1 100 "):
            answer = from_server.head()
        if answer is None:
            raise OSError("no answer")
        time.sleep(self.latency + (SLOW_SECONDS if is_slow else 0))
        from_client.sock.sendall(answer)
        bodiless = head.startswith(b"HEAD ") or answer[9:12] in (b"204", b"304")
        got = 0 if bodiless else from_server.pass_body(answer, from_client.sock, self.rate)
        with self.lock:
            self.bytes_in, self.bytes_out = self.bytes_in + got, self.bytes_out + sent

    def take(self):
        """What was counted since the last time."""
        with self.lock:
            taken = dict(self.counts), self.bytes_in, self.bytes_out
            self.counts, self.bytes_in, self.bytes_out = Counter(), 0, 0
        return taken


class Stream:
    """Reads heads and bodies of HTTP/1.1 from a socket."""

    def __init__(self, sock):
        self.sock, self.ahead = sock, b""

    def head(self):
        while (end := self.ahead.find(b"\r\n\r\n")) < 0:
            more = self.sock.recv(CHUNK)
            if not more:
                return None
            self.ahead += more
        head, self.ahead = self.ahead[:end + 4], self.ahead[end + 4:]
        return head

    def some(self, most):
        if self.ahead:
            data, self.ahead = self.ahead[:most], self.ahead[most:]
            return data
        data = self.sock.recv(min(most, CHUNK))
        if not data:
            raise OSError("cut off")
        return data

    def pass_body(self, head, to, rate=None):
        fields = head.lower()
        if b"\r\ntransfer-encoding: chunked" in fields:
            return self.pass_chunks(to)
        length = re.search(rb"\r\ncontent-length: *(\d+)", fields)
        left = total = int(length[1]) if length else 0
        if left and b"\r\nexpect:" in fields:
            to_answer = re.search(rb"\r\nexpect: *100-continue", fields)
            if to_answer:
                self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        began = time.monotonic()
        while left:
            data = self.some(left)
            to.sendall(data)
            left -= len(data)
            if rate:
                early = (total - left) / rate - (time.monotonic() - began)
                if early > 0:
                    time.sleep(early)
        return total

    def pass_chunks(self, to):
        total = 0
        while True:
            while b"\r\n" not in self.ahead:
                self.ahead += self.some(CHUNK)
            line, rest = self.ahead.split(b"\r\n", 1)
            self.ahead = rest
            to.sendall(line + b"\r\n")
            left = int(line.split(b";")[0], 16)
            last = left == 0
            total, left = total + left, left + 2
            while left:
                data = self.some(left)
                to.sendall(data)
                left -= len(data)
            if last:
                return total


def kind(head):
    """The S3 operation that a request is."""
    method, target = head.split(b" ", 2)[:2]
    query = target.partition(b"?")[2]
    copies = b"\r\nx-amz-copy-source:" in head.lower()
    if method == b"PUT":
        return ("PART_COPY" if copies else "PART") if b"partNumber=" in query else ("COPY" if copies else "PUT")
    if method == b"POST":
        return "DELETE_MANY" if b"delete" in query.split(b"&")[0] else "MPU_CREATE" if b"uploads" in query else "COMPLETE"
    if method == b"GET" and (b"list-type" in query or b"prefix=" in query):
        return "LIST"
    return {b"GET": "GET", b"HEAD": "HEAD", b"DELETE": "DELETE"}.get(method, "OTHER")
