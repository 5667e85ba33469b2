"""What the servers by Python have in common: HTTP by hand, since a sign-in is of a connection; one thread each; and a relay."""

import re
import socket
import ssl
import threading


def requests(stream):
    """Path, head and body of each."""
    while line := stream.readline().decode("latin-1"):
        head = {}
        for field in iter(lambda: stream.readline().decode("latin-1").strip(), ""):
            name, _, value = field.partition(":")
            head[name.lower()] = value.strip()
        yield line.split(" ")[1], head, stream.read(int(head.get("content-length", 0)))


def answer(sock, status, *headers, body=b""):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: text/xml", *headers, "", ""]
    sock.sendall("\r\n".join(lines).encode() + body)


def message(stream):
    """The bytes of one request or answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            raise OSError("it ended")
        head += line
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    return head + stream.read(int(length[1]) if length else 0)


def relay(sock, port):
    """Ends TLS and passes on what comes. In one thread, by turns: two in one TLS connection of Python's hang it."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with trusting.wrap_socket(socket.create_connection(("127.0.0.1", port))) as behind:
        client, server = sock.makefile("rb"), behind.makefile("rb")
        while client.peek(1):
            behind.sendall(message(client))
            sock.sendall(message(server))


def listen(certificate, run, *args):
    """Runs it for each connection, with TLS by this file where there is one; the port."""
    tls = certificate and ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if tls:
        tls.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def one(sock):
        try:
            with tls.wrap_socket(sock, server_side=True) if tls else sock as sock:
                run(sock, *args)
        except OSError:
            pass

    def accept():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]
