<?php
// The FFI object goes, and with it what PHP knows of the library, while its threads live; then it is loaded again.
function load(): FFI
{
    return FFI::cdef(file_get_contents(getenv('EWSNOTIFY_HEADER')), 'libewsnotify.so.0.1');
}
function until(FFI $ffi, $client, string $type): string
{
    do {
        $text = $ffi->ewsn_next_json($client, 60000) ?? exit(1);
    } while (json_decode($text)->type !== $type);
    return $text;
}
$ffi = load();
$client = $ffi->ewsn_open_json($argv[1]) ?? exit(1);
$ffi->ewsn_watch_json($client, null);
until($ffi, $client, 'Connected');
$handle = FFI::cast('intptr_t', $client)->cdata;
$client = null;
$ffi = null;
gc_collect_cycles();
echo "{\"type\":\"unloaded\"}\n";
$threads = count(glob('/proc/self/task/*'));
$ffi = load();
$number = $ffi->new('intptr_t');
$number->cdata = $handle;
$client = $ffi->cast('ewsn_client *', $number);
echo until($ffi, $client, 'NewMail'), "\n";
$client = null;
$ffi = null;
exit($threads > 1 ? 7 : 1);
