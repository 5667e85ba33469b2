#!/usr/bin/env python3
"""Signs a user in on another device (a phone, a laptop), for a machine that has no browser. The tokens go into the store, where
watch.py or any other program with these options finds and renews them.

    sign_in.py OPTIONS-AS-JSON

The options are those of the watch: "user", "oauth_tenant", "oauth_client_id", and "state_dir" or "oauth_token_store". What to do, and
what came of it, is a JSON line each. Ends with 4 where somebody said no or nobody signed in, with 130 on Ctrl-C.
"""

import json
import sys

import ewsnotify

_E_AUTH = -6


def main() -> int:
    options = json.loads(sys.argv[1])
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
