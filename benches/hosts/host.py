"""As host.c, in Python."""
import ctypes, json, sys, time

import ewsnotify

options, way, count = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
client = ewsnotify.Client(**options)
client.watch()
awaited = 2
while awaited:
    awaited -= client.next(60)["type"] in ("Connected", "Drained")
print("ready", flush=True)
while client.status()["queued"] < count:
    time.sleep(0.01)

lib = ewsnotify._lib
handle = client._handle
pointer = ctypes.c_void_p
for name, result, arguments in [
    ("next", ctypes.c_int32, [pointer, ctypes.c_int32, ctypes.POINTER(pointer)]),
    ("event_str", ctypes.c_char_p, [pointer, ctypes.c_int32]),
    ("event_type", ctypes.c_int32, [pointer]),
    ("event_seq", ctypes.c_uint64, [pointer]),
    ("event_time_ms", ctypes.c_int64, [pointer]),
    ("event_free", None, [pointer]),
]:
    function = getattr(lib, "ewsn_" + name)
    function.restype, function.argtypes = result, arguments

taken = 0


def tell(event):
    global taken
    taken += 1


client.on_event(tell)
began = time.monotonic_ns()
if way == "accessors":
    event = pointer()
    text, place = lib.ewsn_event_str, ctypes.byref(event)
    while taken < count:
        assert lib.ewsn_next(handle, 0, place) == 0
        fields = [text(event, field) for field in (1, 2, 3, 5, 4, 9, 10)]
        fields += [lib.ewsn_event_type(event), lib.ewsn_event_seq(event), lib.ewsn_event_time_ms(event)]
        lib.ewsn_event_free(event)
        taken += 1
elif way == "JSON":
    while taken < count:
        assert client.next(0)["seq"]
        taken += 1
else:
    while taken < count:
        assert client.dispatch(0)
print((time.monotonic_ns() - began) // count)
client.close(0)
