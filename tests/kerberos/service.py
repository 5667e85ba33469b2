"""HTTPS servers that let in who signs in by Kerberos, as MIT's GSSAPI takes it (python3-gssapi), and who names the TLS channel that he
comes by; what they are asked then, they pass on to an Exchange behind them.

Arguments: a folder with server.pem and relay.pem (certificate and key each), the address of that Exchange (host:port, plain http), and
its Authorization header. The service's keytab and the realm are the environment's. Prints one line of JSON with the ports, then one for
each request: the server's name, the length of the body, and what came of the sign-in. Ends with its standard input.

bound signs a connection in, each a single request; liar proves itself by a token that is none; relay ends TLS with a certificate of its
own and passes on to bound what comes. Without TLS, and so without a channel to name, plain proves itself, and silent does not.
"""

import base64
import hashlib
import http.client
import json
import pathlib
import sys
import threading

import gssapi
from gssapi.raw import ChannelBindings

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "common"))
from by_hand import answer, listen, relay, requests

FOLDER, UPSTREAM, AUTHORIZATION = sys.argv[1:]
PASSED_ON = ("content-type", "soapaction", "x-anchormailbox", "x-preferserveraffinity", "cookie")
lock = threading.Lock()


def say(**what):
    with lock:
        print(json.dumps(what), flush=True)


def bindings():
    pem = open(f"{FOLDER}/server.pem").read()
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    der = base64.b64decode(pem.split(begin)[1].split(end)[0])
    # By the hash of its signature, which rcgen makes by SHA-256 (RFC 5929).
    return ChannelBindings(application_data=b"tls-server-end-point:" + hashlib.sha256(der).digest())


def pass_on(sock, path, head, body, *headers):
    """What the Exchange says, as it comes."""
    behind = http.client.HTTPConnection(UPSTREAM)
    known = {name: head[name] for name in PASSED_ON if name in head}
    behind.request("POST", path, body, {**known, "Authorization": AUTHORIZATION})
    reply = behind.getresponse()
    lines = [f"HTTP/1.1 {reply.status} {reply.reason}", "Transfer-Encoding: chunked", *headers]
    lines += [f"{name}: {value}" for name, value in reply.getheaders() if name.lower() in ("content-type", "set-cookie")]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    while piece := reply.read1(65536):
        sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
    sock.sendall(b"0\r\n\r\n")
    behind.close()


def serve(sock, name, bound):
    """One connection."""
    signed_in = False
    for path, head, body in requests(sock.makefile("rb")):
        scheme, _, token = head.get("authorization", "").partition(" ")
        told = []
        if not signed_in or scheme:
            if scheme != "Negotiate":
                say(server=name, body=len(body), sign_in="none")
                answer(sock, "401 Unauthorized", "WWW-Authenticate: Negotiate")
                continue
            context = gssapi.SecurityContext(usage="accept", channel_bindings=bound)
            try:
                out = context.step(base64.b64decode(token))
                assert context.complete, "Kerberos takes one turn"
            except gssapi.exceptions.GSSError as e:
                say(server=name, body=len(body), sign_in=type(e).__name__)
                answer(sock, "401 Unauthorized", "WWW-Authenticate: Negotiate", f"X-DiagInfo: {type(e).__name__}")
                continue
            # MIT takes who names no channel; who requires Extended Protection does not.
            if bound and gssapi.RequirementFlag.channel_bound not in context.actual_flags:
                say(server=name, body=len(body), sign_in="unbound")
                answer(sock, "401 Unauthorized", "WWW-Authenticate: Negotiate", "X-DiagInfo: Unbound")
                continue
            say(server=name, body=len(body), sign_in=str(context.initiator_name))
            signed_in = name != "each"
            if name == "liar":
                # The token of another sign-in proves nothing of this one.
                out = out[:-8] + bytes(8)
            if name != "silent":
                told.append(f"WWW-Authenticate: Negotiate {base64.b64encode(out).decode()}")
        else:
            say(server=name, body=len(body), sign_in="before")
        pass_on(sock, path, head, body, *told)


ports = {name: listen(f"{FOLDER}/server.pem", serve, name, bindings()) for name in ("bound", "each", "liar")}
ports |= {name: listen(None, serve, name, None) for name in ("plain", "silent")}
ports["relay"] = listen(f"{FOLDER}/relay.pem", relay, ports["bound"])
print(json.dumps(ports), flush=True)
sys.stdin.read()
