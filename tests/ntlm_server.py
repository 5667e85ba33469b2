"""HTTPS servers that let in who signs in by NTLM, as pyspnego understands it, and who names the TLS channel that he comes by.

Arguments: a folder, and the scheme to offer (NTLM or Negotiate). Users are in the file that NTLM_USER_FILE names. It writes an authority
(ca.pem) and certificates into the folder, prints one line of JSON with the ports, and ends with its standard input. One of the
servers is a relay: it ends TLS with a certificate of its own and passes on what comes.
"""

import base64
import datetime
import hashlib
import ipaddress
import json
import pathlib
import sys

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from spnego._ntlm_raw.messages import Authenticate, AvId, NTClientChallengeV2
from spnego.channel_bindings import GssChannelBindings

sys.path.insert(0, str(pathlib.Path(__file__).parent / "common"))
from by_hand import answer, listen, relay, requests

FOLDER, SCHEME = pathlib.Path(sys.argv[1]), sys.argv[2]
NOW = datetime.datetime.now(datetime.timezone.utc)


def certificate(subject, key, issuer, issuer_key, hash_, ca=False, rsa_padding=None):
    name = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    built = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    return built.sign(issuer_key, hash_, rsa_padding=rsa_padding)


def write(name, cert, key=None):
    pem = cert.public_bytes(serialization.Encoding.PEM)
    if key:
        kind = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pem += key.private_bytes(serialization.Encoding.PEM, *kind)
    path = FOLDER / name
    path.write_bytes(pem)
    return path


class Unbound(Exception):
    pass


def demand_a_binding(token):
    """pyspnego takes zeros for a channel that it was told of; who requires Extended Protection does not."""
    response = Authenticate.unpack(token).nt_challenge_response
    if not any(NTClientChallengeV2.unpack(response[16:]).av_pairs.get(AvId.channel_bindings, b"")):
        raise Unbound()


def serve(sock, bindings):
    """One connection."""
    context, user = None, None
    for _, head, body in requests(sock.makefile("rb")):
        scheme, _, token = head.get("authorization", "").partition(" ")
        if user and not scheme:
            answer(sock, "200 OK", body=f"<Envelope>{user} again</Envelope>".encode())
            continue
        if scheme != SCHEME:
            answer(sock, "401 Unauthorized", f"WWW-Authenticate: {SCHEME}")
            continue
        token = base64.b64decode(token)
        try:
            if context is None:
                # The request's body has no place in the first turn.
                assert body == b"", "a body with the first message"
                context = spnego.server(protocol=SCHEME.lower(), channel_bindings=bindings)
            else:
                demand_a_binding(token)
            out = context.step(token)
        except Exception as e:
            context = None
            answer(sock, "401 Unauthorized", f"WWW-Authenticate: {SCHEME}", f"X-DiagInfo: {type(e).__name__}")
            continue
        if not context.complete:
            answer(sock, "401 Unauthorized", f"WWW-Authenticate: {SCHEME} {base64.b64encode(out).decode()}")
            continue
        user, context = context.client_principal, None
        answer(sock, "200 OK", "Persistent-Auth: true", body=f"<Envelope>{user} {body.decode()}</Envelope>".encode())


def main():
    ca_keys = {"ec": ec.generate_private_key(ec.SECP384R1()), "rsa": rsa.generate_private_key(65537, 2048)}
    ca_keys["ed"] = ed25519.Ed25519PrivateKey.generate()
    authorities = b""
    for name, key in ca_keys.items():
        hash_ = None if name == "ed" else hashes.SHA256()
        authorities += certificate(name, key, name, key, hash_, ca=True).public_bytes(serialization.Encoding.PEM)
    (FOLDER / "ca.pem").write_bytes(authorities)

    # By the signature's hash, which is the binding's; cryptography's word for it is not ours.
    kinds = {
        "ecdsa-sha256": ("ec", hashes.SHA256(), None, hashlib.sha256),
        "ecdsa-sha384": ("ec", hashes.SHA384(), None, hashlib.sha384),
        "rsa-sha256": ("rsa", hashes.SHA256(), None, hashlib.sha256),
        "rsa-sha512": ("rsa", hashes.SHA512(), None, hashlib.sha512),
        "pss-sha512": ("rsa", hashes.SHA512(), padding.PSS(padding.MGF1(hashes.SHA512()), 64), hashlib.sha512),
        "ed25519": ("ed", None, None, hashlib.sha256),
    }
    ports = {}
    for name, (ca, hash_, rsa_padding, binds) in kinds.items():
        key = ec.generate_private_key(ec.SECP256R1())
        cert = certificate("server", key, ca, ca_keys[ca], hash_, rsa_padding=rsa_padding)
        if hash_:
            assert cert.signature_hash_algorithm.name == binds().name
        data = b"tls-server-end-point:" + binds(cert.public_bytes(serialization.Encoding.DER)).digest()
        path = write(f"{name}.pem", cert, key)
        ports[name] = listen(path, serve, GssChannelBindings(application_data=data))
    key = ec.generate_private_key(ec.SECP256R1())
    path = write("relay.pem", certificate("relay", key, "ec", ca_keys["ec"], hashes.SHA256()), key)
    ports["relay"] = listen(path, relay, ports["ecdsa-sha256"])
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


main()
