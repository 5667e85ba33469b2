"""The header loads in cffi, and works."""
import sys

import cffi

ffi = cffi.FFI()
ffi.cdef(open(sys.argv[1]).read())
lib = ffi.dlopen("libewsnotify.so.0.1")
assert lib.ewsn_abi_check(lib.EWSN_ABI) == lib.EWSN_OK
client = lib.ewsn_open_json(b'{"log": "debug"}')
assert client, ffi.string(lib.ewsn_last_error())
told = []


@ffi.callback("ewsn_event_fn")
def tell(user, c, event):
    told.append(lib.ewsn_event_type(event))


assert lib.ewsn_on_event(client, tell, ffi.NULL, ffi.NULL) == lib.EWSN_OK
assert lib.ewsn_close(client, -1) == lib.EWSN_OK
while lib.ewsn_dispatch(client, 0, 0) != lib.EWSN_E_CLOSED:
    pass
assert told == [lib.EWSN_CLOSED_EVENT], told
lib.ewsn_free(client)
print("fine")
