<?php
// As host.c, in PHP.
require getenv('EWSNOTIFY_WRAPPER');
[, $options, $way, $count] = $argv;
$ffi = FFI::cdef(file_get_contents(getenv('EWSNOTIFY_HEADER')), 'libewsnotify.so.0.1');
$raw = $way === 'accessors' ? $ffi->ewsn_open_json($options) : null;
$client = $raw === null ? Ewsnotify\Client::open(json_decode($options, true)) : null;
$raw === null ? $client->watch() : $ffi->ewsn_watch_json($raw, null);
$next = fn () => $raw === null ? $client->next(60000) : json_decode($ffi->ewsn_next_json($raw, 60000), true);
for ($awaited = 2; $awaited > 0;) {
    $awaited -= (int) in_array($next()['type'], ['Connected', 'Drained']);
}
echo "ready\n";
$status = fn () => $raw === null ? $client->status() : json_decode($ffi->ewsn_status_json($raw), true);
while ($status()['queued'] < $count) {
    usleep(10000);
}
$taken = 0;
if ($client !== null) {
    $client->onEvent(function (array $event) use (&$taken): void {
        ++$taken;
    });
}
$began = hrtime(true);
if ($way === 'accessors') {
    $event = $ffi->new('ewsn_event *');
    $place = FFI::addr($event);
    for (; $taken < $count; ++$taken) {
        if ($ffi->ewsn_next($raw, 0, $place) !== 0) {
            exit(1);
        }
        $fields = [];
        foreach ([1, 2, 3, 5, 4, 9, 10] as $field) {
            $fields[] = $ffi->ewsn_event_str($event, $field);
        }
        $fields[] = $ffi->ewsn_event_type($event) + $ffi->ewsn_event_seq($event) + $ffi->ewsn_event_time_ms($event);
        $ffi->ewsn_event_free($event);
    }
} elseif ($way === 'JSON') {
    for (; $taken < $count; ++$taken) {
        if (!$client->next(0)['seq']) {
            exit(1);
        }
    }
} else {
    while ($taken < $count) {
        $client->dispatch(0) ?: exit(1);
    }
}
echo intdiv(hrtime(true) - $began, (int) $count), "\n";
