"""A token endpoint that believes nobody: it checks with PyJWT and cryptography how a program proves who it is (RFC 7523), once as Microsoft
Entra ID wants it (/other/token, PS256) and once as AD FS does (/adfs/oauth2/token, RS256). For a program that is whom it says it is, it
fetches a token from the simulator's endpoint by the program's secret, and hands that on.

Arguments: the program's id, its certificate (PEM), the simulator's token endpoint, the CA of that, the secret. It prints its port, and then
a line of JSON for each question: what it found, and what is wrong with it. It ends with its standard input.
"""

import base64
import hashlib
import http.server
import json
import ssl
import sys
import threading
import time
import urllib.parse
import urllib.request

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

CLIENT, CERTIFICATE, ENDPOINT, CA, SECRET = sys.argv[1:]
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
with open(CERTIFICATE, "rb") as file:
    certificate = x509.load_pem_x509_certificate(file.read())
DER = certificate.public_bytes(Encoding.DER)
SEEN = set()
ALGORITHMS = {"/other/token": "PS256", "/adfs/oauth2/token": "RS256"}


def thumbprint(algorithm):
    return base64.urlsafe_b64encode(hashlib.new(algorithm, DER).digest()).rstrip(b"=").decode()


def check(place, form):
    """What the assertion says; raises what is wrong with it."""
    assert form["grant_type"] == "client_credentials" and form["client_assertion_type"] == BEARER, form.keys()
    assert "client_secret" not in form and form["client_id"] == CLIENT and form["scope"], form.keys()
    assertion, algorithm = form["client_assertion"], ALGORITHMS[place]
    assert "=" not in assertion, "padding"
    header = jwt.get_unverified_header(assertion)
    wanted = {"alg": algorithm, "typ": "JWT", "x5t#S256": thumbprint("sha256")}
    if algorithm == "RS256":
        wanted["x5t"] = thumbprint("sha1")
    assert header == wanted, f"{header} and not {wanted}"
    audience = f"http://127.0.0.1:{server.server_port}{place}"
    claims = jwt.decode(
        assertion,
        certificate.public_key(),
        algorithms=[algorithm],
        audience=audience,
        issuer=CLIENT,
        subject=CLIENT,
        options={"require": ["aud", "exp", "iss", "jti", "nbf", "sub"], "strict_aud": True},
    )
    now = time.time()
    # Entra takes none that is good for longer than ten minutes or so.
    assert now < claims["exp"] <= now + 600 and now - 600 <= claims["nbf"] <= now, claims
    assert len(claims["jti"]) >= 22 and claims["jti"] not in SEEN, "a jti that came before, or that can be guessed"
    SEEN.add(claims["jti"])
    # One letter of the signature changed, and it is none any more.
    at = len(assertion) - 20
    forged = assertion[:at] + ("A" if assertion[at] != "A" else "B") + assertion[at + 1 :]
    try:
        jwt.decode(forged, certificate.public_key(), algorithms=[algorithm], audience=audience)
    except jwt.InvalidSignatureError:
        return header, claims
    raise AssertionError("this check finds nothing")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        form = dict(urllib.parse.parse_qsl(body, strict_parsing=True))
        try:
            header, claims = check(self.path, form)
            asked = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET, "scope": form["scope"]}
            trusted = ssl.create_default_context(cafile=CA)
            data = urllib.parse.urlencode(asked).encode()
            with urllib.request.urlopen(ENDPOINT, data, context=trusted) as told:
                status, answer = told.status, told.read()
            said = {"place": self.path, "alg": header["alg"], "jti": claims["jti"]}
        except Exception as e:
            said = {"place": self.path, "wrong": f"{type(e).__name__}: {e}"}
            status, answer = 401, json.dumps({"error": "invalid_client", "error_description": "see there"}).encode()
        print(json.dumps(said), flush=True)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
