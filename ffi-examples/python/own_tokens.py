#!/usr/bin/env python3
"""Watches a mailbox with tokens that this program fetches itself, as a web application does that has its users' sign-ins in a
database of its own.

    EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "auth": "host"}' \\
    python3 own_tokens.py TOKEN-URL CLIENT-ID REFRESH-TOKEN-FILE

Each event is a JSON line. The file stands for the database: it has the refresh token, and is replaced whenever the issuer gives
another. It ends with 2 without options or arguments, with 4 where the user has to sign in anew, and with 1 when the mailbox is given up
otherwise.
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
RETRY = 60


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
    if "EWSNOTIFY_OPTIONS" not in os.environ or len(sys.argv) != 4:
        print("usage: EWSNOTIFY_OPTIONS='{\"url\": ...}' own_tokens.py TOKEN-URL CLIENT-ID REFRESH-TOKEN-FILE", file=sys.stderr)
        return 2
    options, (url, client_id, path) = json.loads(os.environ["EWSNOTIFY_OPTIONS"]), sys.argv[1:]
    tls = ssl.create_default_context(cafile=options.get("ca_file"))
    owed = None  # the TokenNeeded that is not answered yet, and when to try again
    given_up = 0
    with ewsnotify.Client(**options) as client:
        # An event counts as dealt with when it is acknowledged.
        client.watch(ack="manual")
        while True:
            try:
                event = client.next(AGAIN if owed is None else max(0, owed[1] - time.monotonic()))
            except StopIteration:
                return given_up
            if event is not None:
                print(json.dumps(event), flush=True)
                if event.get("content") == "unavailable":
                    client.retry(event, RETRY)
                elif "item_id" in event:
                    client.ack(event)
                if event["type"] == "TokenNeeded":
                    owed = (event, 0)
                elif event["type"] == "Closed" and "watch" in event and event.get("reason") != "closed-by-host":
                    given_up = 4 if event.get("reason") == "sign-in-refused" else 1
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
