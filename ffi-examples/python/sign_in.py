#!/usr/bin/env python3
"""Signs a user in on another device (a phone, a laptop), for a machine that has no browser. The tokens go into the store, where
watch.py or any other program with these options finds and renews them.

    EWSNOTIFY_OPTIONS='{"user": "ada@example.com", "oauth_tenant": "example.com", "oauth_client_id": "...", "state_dir": "state"}' \\
    python3 sign_in.py

The options are those of the watch, with "state_dir" or "oauth_token_store". What to do, and what came of it, is a JSON line each. It ends
with 2 without options, with 4 where somebody said no or nobody signed in, with 130 on Ctrl-C, and with 1 when it failed otherwise.
"""

import json
import os
import sys

import ewsnotify

_E_AUTH = -6


def main() -> int:
    if "EWSNOTIFY_OPTIONS" not in os.environ:
        print("EWSNOTIFY_OPTIONS is not set: it has the options, as JSON", file=sys.stderr)
        return 2
    options = json.loads(os.environ["EWSNOTIFY_OPTIONS"])
    if not {"state_dir", "oauth_token_store"} & options.keys():
        print("nowhere to store the tokens: set state_dir or oauth_token_store", file=sys.stderr)
        return 2
    try:
        begun = ewsnotify.sign_in_begin(**options)
        kept = begun.pop("kept")
        print(json.dumps({"type": "SignIn", **begun}), flush=True)
        done = ewsnotify.sign_in_finish(kept, **options)
    except ewsnotify.EwsError as e:
        print(f"the sign-in has failed: {e}", file=sys.stderr)
        return 4 if e.status == _E_AUTH else 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps({"type": "SignedIn", **done}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
