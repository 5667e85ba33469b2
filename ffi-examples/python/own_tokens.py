#!/usr/bin/env python3
"""Watches a mailbox with tokens that this program fetches itself, as a web application does that has its users' sign-ins in a
database of its own.

    own_tokens.py OPTIONS-AS-JSON TOKEN-URL CLIENT-ID REFRESH-TOKEN-FILE

The options have "auth": "host". Each event is a JSON line. The file stands for the database: it has the refresh token, and is
replaced whenever the issuer gives another. Ends with 4 where the user has to sign in anew.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import ewsnotify

AGAIN = 30


class SignInNeeded(Exception):
    pass


def fetch(url: str, client_id: str, path: str, tls: ssl.SSLContext, claims: str) -> "tuple[str, float]":
    """A new access token, and when it ends."""
    with open(path) as file:
        form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": file.read().strip()}
    if claims:
        form["claims"] = claims
    asked = time.time()
    try:
        with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), timeout=30, context=tls) as reply:
            answer = json.load(reply)
    except urllib.error.HTTPError as e:
        # 400 and 401 are for people; what else there is may pass.
        if e.code not in (400, 401):
            raise
        refusal = json.load(e)
        raise SignInNeeded(f"{refusal['error']}: {refusal.get('error_description', '')}") from None
    if "refresh_token" in answer:
        # Kept before anything else: the old one may be of no use any more.
        with open(path + ".new", "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(answer["refresh_token"])
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)
    return answer["access_token"], asked + answer["expires_in"]


def main() -> int:
    options, (url, client_id, path) = json.loads(sys.argv[1]), sys.argv[2:5]
    tls = ssl.create_default_context(cafile=options.get("ca_file"))
    owed = None  # the TokenNeeded that is not answered yet, and when to try again
    sign_in_needed = False
    with ewsnotify.Client(**options) as client:
        client.watch()
        while True:
            try:
                event = client.next(AGAIN if owed is None else max(0, owed[1] - time.monotonic()))
            except StopIteration:
                return 4 if sign_in_needed else 0
            if event is not None:
                print(json.dumps(event), flush=True)
                if event["type"] == "TokenNeeded":
                    owed = (event, 0)
                elif event["type"] == "Closed" and "watch" in event:
                    sign_in_needed |= event.get("reason") == "sign-in-refused"
                    client.close()
            if owed is not None and owed[1] <= time.monotonic():
                event = owed[0]
                try:
                    token, expires = fetch(url, client_id, path, tls, event.get("claims", ""))
                    client.set_token(event["account"], token, expires)
                    owed = None
                except SignInNeeded as why:
                    client.deny_token(event["account"], str(why))
                    owed = None
                except (OSError, ValueError, KeyError, ewsnotify.EwsError) as e:
                    print(f"no token for now: {e}", file=sys.stderr)
                    owed = (event, time.monotonic() + AGAIN)


if __name__ == "__main__":
    sys.exit(main())
